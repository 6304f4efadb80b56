# Makes .venv with everything the named requirement files ask for, or reuses it as it is.
# Sourced by run.sh and test.sh; sets $python. TORCH names another torch requirement.

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python 3.10 or newer was found. Install one, or name it: PYTHON=/path/to/python $0" >&2
  return 1
}

prepare_environment() {
  local torch="${TORCH:-torch>=2.4}" wanted base
  # ComfyUI's own virtual environments do not count: this one is ours.
  unset PYTHONPATH PYTHONHOME
  wanted="$torch $(cat "$@")"
  python=.venv/bin/python
  if [ -x "$python" ] && [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  base=$(find_python) || exit 1
  [ -x "$python" ] || "$base" -m venv .venv || {
    echo "The virtual environment could not be made; on Debian and Ubuntu install python3-venv." >&2
    exit 1
  }
  echo "Installing into .venv (once)..." >&2
  "$python" -m pip install --quiet --disable-pip-version-check "$torch"
  local files=()
  for file in "$@"; do files+=(-r "$file"); done
  "$python" -m pip install --quiet --disable-pip-version-check "${files[@]}"
  printf '%s' "$wanted" >.venv/installed
}
