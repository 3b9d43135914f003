# Sourced by demo.sh and ablation.sh: runs commands one by one, each printed before it starts.
set -euo pipefail
set -m # each command is a process group of its own, which an interrupt reaches as a whole
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)
python=${PYTHON:-$python}
child=

step() { # TITLE COMMAND...
  local title=$1
  shift
  printf '\n[%d:%02d] %s: %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$title" "${*:2}"
  "$@" &
  child=$!
  local code=0
  wait "$child" || code=$?
  # a command that was only stopped (kill -STOP) has not ended
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    code=0
    wait "$child" || code=$?
  done
  ((code == 0)) || {
    echo "error: $title: did not finish; fix the cause and run the same command again to continue" >&2
    exit 1
  }
}

interrupt() {
  trap '' INT TERM
  kill -INT -- "-$child" 2>/dev/null || true
  wait || true
  echo "interrupted; run the same command again to continue" >&2
  exit 130
}
trap interrupt INT TERM
