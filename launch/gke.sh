#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fills in launch/gke.yaml and applies it: a run on a TPU slice of Kubernetes Engine.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/gke.sh [options] -- <verb> [options of the verb]

  --name NAME            name of the JobSet
  --image IMAGE          a container image with FiLax installed
  --accelerator NAME     e.g. tpu-v5p-slice
  --topology SHAPE       e.g. 4x4x4
  --hosts N              hosts of the slice (16 for 4x4x4)
  --chips-per-host N     default 4
  --dry-run              print what would be applied and stop

  launch/gke.sh --name stage4 --image REGISTRY/filax --accelerator tpu-v5p-slice --topology 4x4x4 \
      --hosts 16 -- train --config configs/fila_stage4.py --workdir gs://BUCKET/stage4
TEXT
}

export FILAX_NAME='' FILAX_IMAGE='' FILAX_ACCELERATOR='' FILAX_TOPOLOGY='' FILAX_HOSTS=''
export FILAX_CHIPS_PER_HOST=4 FILAX_ARGS=''
dry=''
while [ $# -gt 0 ]; do
  case "$1" in
    --name) FILAX_NAME=$2; shift 2 ;;
    --image) FILAX_IMAGE=$2; shift 2 ;;
    --accelerator) FILAX_ACCELERATOR=$2; shift 2 ;;
    --topology) FILAX_TOPOLOGY=$2; shift 2 ;;
    --hosts) FILAX_HOSTS=$2; shift 2 ;;
    --chips-per-host) FILAX_CHIPS_PER_HOST=$2; shift 2 ;;
    --dry-run) dry=1; shift ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) echo "launch/gke.sh: not understood: $1" >&2; exit 2 ;;
  esac
done
for variable in FILAX_NAME FILAX_IMAGE FILAX_ACCELERATOR FILAX_TOPOLOGY FILAX_HOSTS; do
  if [ -z "${!variable}" ]; then
    option=$(echo "${variable#FILAX_}" | tr '[:upper:]_' '[:lower:]-')
    echo "launch/gke.sh: set --$option" >&2; exit 2
  fi
done
[ $# -gt 0 ] || { echo "launch/gke.sh: put the filax command after --" >&2; exit 2; }
# shellcheck source=launch/flags.sh
. "$(dirname "$0")/flags.sh"
export FILAX_TPU_FLAGS="${TPU_FLAGS[*]}"
FILAX_ARGS=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@")

filled=$(python3 -c 'import os, string, sys
print(string.Template(sys.stdin.read()).substitute(os.environ), end="")' \
  < <(sed '/^#/d' "$(dirname "$0")/gke.yaml"))
if [ -n "$dry" ]; then echo "$filled"; else kubectl apply -f - <<< "$filled"; fi
