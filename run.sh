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
"$python" -m wan run wan2-1-i2v \
  --input prompt="A red ball rolls down a green hill." \
  --input input_image=assets/sample.png \
  --input size=192x112 --input num_frames=17 --input num_inference_steps=8 \
  --models tiny --out output/image_to_video.mp4
