#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run on a Cloud TPU slice: create, setup, run, logs, stop. Every step can be repeated.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'TEXT'
usage: launch/tpu_vm.sh <step> [options] [-- <verb> [options of the verb]]

steps
  create   ask for a slice as a queued resource and wait until it is there
  setup    copy the files that are committed in git to every host, and install FiLax
  run      start a filax command on every host; it restarts and resumes until it has finished
  logs     follow the log of one host (--worker N)
  status   state of the slice and of the run on every host
  stop     save and end the run (the slice stays)
  delete   give the slice back

options
  --name NAME        name of the slice              (or FILAX_TPU_NAME)
  --zone ZONE        e.g. us-east5-a                (or FILAX_TPU_ZONE)
  --project PROJECT  billing project                (or FILAX_TPU_PROJECT; default: gcloud's own)
  --type TYPE        e.g. v5p-128 (create)          (or FILAX_TPU_TYPE)
  --version VERSION  runtime image (create)         (or FILAX_TPU_VERSION; default v2-alpha-tpuv5)
  --spot             preemptible capacity (create)
  --worker N         which host (logs; default 0)
  --dry-run          print the commands and stop

  launch/tpu_vm.sh create --name filax --zone us-east5-a --type v5p-128
  launch/tpu_vm.sh setup --name filax --zone us-east5-a
  launch/tpu_vm.sh run --name filax --zone us-east5-a -- \
      train --config configs/fila_stage4.py --workdir gs://BUCKET/stage4
TEXT
}

step=${1:-}
case "$step" in
  create | setup | run | logs | status | stop | delete) shift ;;
  --help | -h) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

name=${FILAX_TPU_NAME:-} zone=${FILAX_TPU_ZONE:-} project=${FILAX_TPU_PROJECT:-}
type=${FILAX_TPU_TYPE:-} version=${FILAX_TPU_VERSION:-v2-alpha-tpuv5} worker=0 dry='' spot=()
while [ $# -gt 0 ]; do
  case "$1" in
    --name) value "$@"; name=$2; shift 2 ;;
    --zone) value "$@"; zone=$2; shift 2 ;;
    --project) value "$@"; project=$2; shift 2 ;;
    --type) value "$@"; type=$2; shift 2 ;;
    --version) value "$@"; version=$2; shift 2 ;;
    --worker) value "$@"; worker=$2; shift 2 ;;
    --spot) spot=(--spot); shift ;;
    --dry-run) dry=1; shift ;;
    --) shift; break ;;
    *) refuse "not understood: $1 (put the filax command after --)" ;;
  esac
done
need() { [ -n "$2" ] || refuse "$step needs --$1."; }
need name "$name"
need zone "$zone"
[ "$worker" = all ] || number --worker "$worker" 0
where=(--zone "$zone")
[ -z "$project" ] || where+=(--project "$project")

do_it() {
  if [ -n "$dry" ]; then quoted "$@"; echo; else "$@"; fi
}
# keep_running STEP [WORD ...]: the words of a host's shell that run keep_running.sh there. The script
# travels with them, so that a host whose copy of this folder is older understands them too.
keep_running() {
  quoted bash -c "$(sed '/^ *#/d' "$(dirname "$0")/keep_running.sh")" keep_running "$@"
}
everywhere() {
  do_it gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="$1" --command "$2"
}

case "$step" in
  create)
    need type "$type"
    do_it gcloud compute tpus queued-resources create "$name" "${where[@]}" \
      --node-id "$name" --accelerator-type "$type" --runtime-version "$version" "${spot[@]}"
    if [ -z "$dry" ]; then
      until gcloud compute tpus queued-resources describe "$name" "${where[@]}" \
        --format='value(state.state)' | grep -q ACTIVE; do
        echo "waiting for $type in $zone ..."; sleep 60
      done
    fi
    ;;
  setup)
    folder=${TMPDIR:-/tmp}
    if [ -z "$dry" ]; then
      folder=$(mktemp -d)  # Only this user can read it.
      trap 'rm -rf "$folder"' EXIT
    fi
    archive=$folder/filax.tar.gz
    do_it git archive --format=tar.gz --output "$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" "$name:filax.tar.gz" "${where[@]}" --worker=all
    everywhere all "mkdir -p filax && tar -xzf filax.tar.gz -C filax && cd filax && \
python3 -m venv .venv && .venv/bin/pip install -q -e '.[tpu]'"
    ;;
  run)
    [ $# -gt 0 ] || refuse "run needs a filax command after --."
    # shellcheck source=launch/flags.sh
    . "$(dirname "$0")/flags.sh"
    restartable "$@"
    # A preempted, stopped or failed run starts again and resumes from its last checkpoint.
    everywhere all "cd filax && export LIBTPU_INIT_ARGS=\"${TPU_FLAGS[*]} \$LIBTPU_INIT_ARGS\" && \
$(keep_running start -- .venv/bin/filax "${command[@]}")"
    ;;
  logs) everywhere "$worker" "tail -n 100 -F filax/run.log" ;;
  status)
    do_it gcloud compute tpus queued-resources describe "$name" "${where[@]}"
    everywhere all "cd filax && $(keep_running status)"
    ;;
  stop) everywhere all "cd filax && $(keep_running stop)" ;;
  delete)
    do_it gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet ;;
esac
