#!/usr/bin/env bash
# Sets up on first use, then runs every app on the shipped samples with the miniature and says
# where the videos are. Arguments go to `python -m wan` instead: ./run.sh run wan2-1-i2v --help
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
  "$python" -m wan run "$app" "${inputs[@]}" --out "$out"
}
make wan2-1-i2v output/image_to_video.mp4 \
  prompt="red circle moves right fast" input_image=assets/scene.png
for mode in animation replacement; do
  make wan-2-2-animate-v2v "output/$mode.mp4" mode="$mode" \
    driving_video=assets/puppet.mp4 reference_image=assets/character.png fps=8
done
