#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Keeps one command running on this machine until it succeeds or is told to stop.
# It needs no other file: tpu_vm.sh sends it to every host inside the command that it runs there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/keep_running.sh start [options] -- COMMAND [ARGUMENT ...]
       launch/keep_running.sh status | stop [options]

  start     run COMMAND in the background; when it ends with anything but 0, run it again
  status    whether it runs, and the last lines of its log
  stop      send it SIGTERM once and wait until it has ended

  --folder DIR    where run.pid and run.log are (default .)
  --pause N       seconds before it is run again (default 20)
  --patience N    seconds that stop waits before it kills (default 600)

  launch/keep_running.sh start -- .venv/bin/filax train --config C --workdir W --exit-when-stopped 75
TEXT
}

refuse() {
  echo "launch/keep_running.sh: $1" >&2
  exit 2
}

step=${1:-}
case "$step" in
  start | status | stop) shift ;;
  --help | -h) usage; exit 0 ;;
  '') usage >&2; exit 2 ;;
  *) refuse "there is no step '$step'; it is start, status or stop." ;;
esac
folder=. pause=20 patience=600
while [ $# -gt 0 ]; do
  case "$1" in
    --folder | --pause | --patience) [ $# -ge 2 ] || refuse "$1 needs a value." ;;
  esac
  case "$1" in
    --folder) folder=$2; shift 2 ;;
    --pause) pause=$2; shift 2 ;;
    --patience) patience=$2; shift 2 ;;
    --) shift; break ;;
    *) refuse "not understood: $1" ;;
  esac
done
[[ $pause =~ ^[0-9]+$ ]] || refuse "--pause is '$pause', but must be a whole number of seconds."
[[ $patience =~ ^[0-9]+$ ]] \
  || refuse "--patience is '$patience', but must be a whole number of seconds."
pid_file=$folder/run.pid

# When a process started, in ticks since the machine did: a number of a process is used again, the
# pair of both is not. Empty if there is no such process.
started() {
  local stat
  { stat=$(< "/proc/$1/stat"); } 2>/dev/null || return 0
  # The second field is a name in brackets that may hold spaces: count from after it.
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" = Z ] || echo "${20}"
}

# Sets `pid` to the process of the loop; false if none runs.
running() {
  local ticks
  read -r pid ticks 2>/dev/null < "$pid_file" || return 1
  [[ $pid =~ ^[0-9]+$ ]] && [ -n "$ticks" ] && [ "$(started "$pid")" = "$ticks" ]
}

# Runs the command until it succeeds. SIGTERM is handed on once; then the command's end is the end.
loop() {
  local child='' stopping='' status
  trap '' HUP  # The connection that started it may close.
  trap 'stopping=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' TERM
  while :; do
    "$@" < /dev/null &
    child=$!
    status=0
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do  # A signal ends wait before the command has ended.
      status=0
      wait "$child" || status=$?
    done
    child=''
    [ "$status" -ne 0 ] || { echo "keep_running: the command finished."; break; }
    [ -z "$stopping" ] || { echo "keep_running: stopped; the command ended with $status."; break; }
    echo "keep_running: the command ended with $status; it starts again in $pause s."
    sleep "$pause" &
    wait $! || true
    [ -z "$stopping" ] || { echo "keep_running: stopped."; break; }
  done
  rm -f "$pid_file"
}

case "$step" in
  start)
    [ $# -gt 0 ] || refuse "start needs a command after --."
    mkdir -p "$folder"
    # Two starts at the same time: the lock lets one of them look and write after the other.
    exec 9> "$folder/run.lock"
    flock 9
    ! running || refuse "already runs (process $pid). Stop it first."
    set -m  # A process group of its own, which stop can end whole.
    loop "$@" < /dev/null >> "$folder/run.log" 2>&1 9>&- &
    set +m
    echo "$! $(started $!)" > "$pid_file"
    echo "started (process $!); the log is $folder/run.log"
    ;;
  status)
    if running; then echo "runs (process $pid)"; else echo "nothing runs"; fi
    tail -n 2 "$folder/run.log" 2>/dev/null || true
    ;;
  stop)
    running || { echo "nothing runs"; exit 0; }
    kill -TERM "$pid"
    for ((waited = 0; waited < patience * 5; waited++)); do
      running || { echo "stopped"; exit 0; }
      sleep 0.2
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$pid_file"
    echo "killed: it did not end within $patience s"
    ;;
esac
