#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs one filax command in several processes on this machine, joined like the hosts of a pod.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'TEXT'
usage: launch/local.sh [options] -- <verb> [options of the verb]

  --processes N   how many processes (default 2)
  --devices N     simulated CPU devices in each process (default: the real ones)
  --port P        port where the processes meet (default 12321; the next one is used as well)
  --restarts N    start all again this often when one fails (default 0); a run resumes by itself
  --grace N       seconds that Ctrl-C, SIGTERM and SIGHUP leave the processes to save (default 120)
  --dry-run       print the commands and stop

  launch/local.sh --processes 2 --devices 4 -- train --config configs/fila_toy.py --workdir runs/two

Ends with 0 when the command has finished, or was stopped by a signal and has saved.
TEXT
}

processes=2 devices='' port=12321 restarts=0 grace=120 dry=''
while [ $# -gt 0 ]; do
  case "$1" in
    --processes) value "$@"; processes=$2; shift 2 ;;
    --devices) value "$@"; devices=$2; shift 2 ;;
    --port) value "$@"; port=$2; shift 2 ;;
    --restarts) value "$@"; restarts=$2; shift 2 ;;
    --grace) value "$@"; grace=$2; shift 2 ;;
    --dry-run) dry=1; shift ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) refuse "not understood: $1 (put the filax command after --)" ;;
  esac
done
[ $# -gt 0 ] || { usage >&2; exit 2; }
number --processes "$processes" 1
number --port "$port" 1
[ "$port" -lt 65535 ] || refuse "--port is $port, but must be below 65535."
number --restarts "$restarts" 0
number --grace "$grace" 0
[ -z "$devices" ] || number --devices "$devices" 1
restartable "$@"

python=${PYTHON:-python3}
flags=${XLA_FLAGS:-}
[ -z "$devices" ] || flags="$flags --xla_force_host_platform_device_count=$devices"

# Sets the array `settings`: the environment of process number $1.
environment() {
  settings=(
    "FILAX_COORDINATOR=127.0.0.1:$port" "FILAX_PROCESSES=$processes" "FILAX_PROCESS_ID=$1"
    "XLA_FLAGS=$flags")
}

# Every process gets a process group of its own (set -m): Ctrl-C reaches this script alone, which
# hands it on once. A second signal would end a process before it has saved.
start_all() {
  pids=()
  set -m
  for ((i = 0; i < processes; i++)); do
    environment "$i"
    env "${settings[@]}" "$python" -m filax "${command[@]}" < /dev/null &
    pids+=($!)
  done
  set +m
}

# stop_all SECONDS: SIGTERM saves and ends; who waits for a process that is gone cannot, and is
# killed when the seconds are over. Sets `saved` to empty if one ended otherwise than by 0 or 75.
stop_all() {
  local pid status
  saved=1
  kill "${pids[@]}" 2>/dev/null || true
  for ((waited = 0; waited < $1 * 5; waited++)); do
    any_runs || break
    sleep 0.2
  done
  for pid in "${pids[@]}"; do
    kill -9 -- "-$pid" 2>/dev/null || true
    status=0
    wait "$pid" 2>/dev/null || status=$?
    [[ $status =~ ^(0|75)$ ]] || saved=''
  done
}

# Waits until all have ended, or one otherwise than by 0. Sets `status` to how.
watch_all() {
  local pid runs=1
  while [ -n "$runs" ]; do
    runs=''
    for pid in "${pids[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then
        runs=1
      else
        status=0
        wait "$pid" || status=$?
        [ "$status" -eq 0 ] || return 0
      fi
    done
    sleep 0.1
  done
}

any_runs() {
  local pid
  for pid in "${pids[@]}"; do
    ! kill -0 "$pid" 2>/dev/null || return 0
  done
  return 1
}

stopped() {
  trap 'kill -9 -- "${pids[@]/#/-}" 2>/dev/null; exit 143' TERM INT  # Again: at once.
  trap '' HUP  # A terminal that closes may say so twice.
  stop_all "$grace"
  if [ -n "$saved" ]; then exit 0; else exit 143; fi
}

if [ -n "$dry" ]; then
  for ((i = 0; i < processes; i++)); do
    environment "$i"
    quoted env "${settings[@]}" "$python" -m filax "${command[@]}"
    echo
  done
  exit 0
fi

pids=()
trap stopped TERM INT HUP
failures=0
while :; do
  start_all
  watch_all
  [ "$status" -ne 0 ] || exit 0
  # 75: a signal to a process stopped them all, and they have saved.
  if [ "$status" -eq 75 ]; then stop_all "$grace"; else stop_all 20; fi
  if [ "$status" -eq 75 ]; then
    echo "launch/local.sh: stopped before its last step; starting again" >&2
    continue
  fi
  [ "$failures" -lt "$restarts" ] || exit "$status"
  failures=$((failures + 1))
  echo "launch/local.sh: a process ended with $status; restart $failures of $restarts" >&2
done
