#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs one filax command in several processes on this machine, joined like the hosts of a pod.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/local.sh [options] -- <verb> [options of the verb]

  --processes N   how many processes (default 2)
  --devices N     pretended CPU devices in each (default: the real ones)
  --port P        where they meet (default 12321)
  --restarts N    start all again this often when one fails (default 0); a run resumes by itself
  --dry-run       print the commands and stop

  launch/local.sh --processes 2 --devices 4 -- train --config configs/fila_toy.py --workdir runs/two
TEXT
}

processes=2 devices='' port=12321 restarts=0 dry=''
while [ $# -gt 0 ]; do
  case "$1" in
    --processes) processes=$2; shift 2 ;;
    --devices) devices=$2; shift 2 ;;
    --port) port=$2; shift 2 ;;
    --restarts) restarts=$2; shift 2 ;;
    --dry-run) dry=1; shift ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) echo "launch/local.sh: not understood: $1 (put the filax command after --)" >&2; exit 2 ;;
  esac
done
[ $# -gt 0 ] || { usage >&2; exit 2; }

python=${PYTHON:-python3}
flags=${XLA_FLAGS:-}
[ -z "$devices" ] || flags="$flags --xla_force_host_platform_device_count=$devices"

start_all() {
  pids=()
  for ((i = 0; i < processes; i++)); do
    FILAX_COORDINATOR="127.0.0.1:$port" FILAX_PROCESSES=$processes FILAX_PROCESS_ID=$i \
      XLA_FLAGS="$flags" "$python" -m filax "$@" &
    pids+=($!)
  done
}

# SIGTERM saves and ends; what waits for a process that is gone cannot, and is ended after 20 s.
stop_all() {
  kill "${pids[@]}" 2>/dev/null || true
  for _ in {1..100}; do
    kill -0 "${pids[@]}" 2>/dev/null || break
    sleep 0.2
  done
  kill -9 "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
}

if [ -n "$dry" ]; then
  for ((i = 0; i < processes; i++)); do
    echo "FILAX_COORDINATOR=127.0.0.1:$port FILAX_PROCESSES=$processes FILAX_PROCESS_ID=$i" \
      "XLA_FLAGS='$flags' $python -m filax $*"
  done
  exit 0
fi

trap 'stop_all; exit 143' TERM INT
for ((attempt = 0; ; attempt++)); do
  start_all "$@"
  status=0
  for _ in "${pids[@]}"; do
    wait -n || { status=$?; break; }
  done
  [ "$status" -ne 0 ] || exit 0
  stop_all
  [ "$attempt" -lt "$restarts" ] || exit "$status"
  echo "launch/local.sh: a process ended with $status; restart $((attempt + 1)) of $restarts" >&2
done
