#!/usr/bin/env bash
# Sets up on first use, then runs every app on a shipped sample and says where the videos are.
# Arguments go to `python -m wan` instead: ./run.sh run wan2-1-i2v --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/environment.sh
prepare_environment requirements.txt requirements-standalone.txt
if [ $# -gt 0 ]; then
  exec "$python" -m wan "$@"
fi
mkdir -p output
make() {
  local app="$1" out="$2"
  shift 2
  local inputs=()
  for pair in "$@"; do inputs+=(--input "$pair"); done
  "$python" -m wan run "$app" "${inputs[@]}" --models tiny --out "$out"
}
make wan2-1-i2v output/image_to_video.mp4 \
  prompt="A red ball rolls down a green hill." input_image=assets/sample.png \
  size=192x112 num_frames=17 num_inference_steps=8
for mode in animation replacement; do
  make wan-2-2-animate-v2v "output/$mode.mp4" mode="$mode" \
    driving_video=assets/puppet.mp4 reference_image=assets/character.png \
    resolution_width=128 resolution_height=96 fps=8 clip_len=13 sampling_steps=4
done
