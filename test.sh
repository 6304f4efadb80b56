#!/usr/bin/env bash
# Sets up on first use, then runs the tests. Arguments go to pytest: ./test.sh tests/sample -k a7
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/environment.sh
prepare_environment requirements.txt requirements-standalone.txt requirements-test.txt
exec "$python" -m pytest "$@"
