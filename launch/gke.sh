#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fills in launch/gke.yaml and applies it: a run on a TPU slice of Kubernetes Engine.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

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
    --name) value "$@"; FILAX_NAME=$2; shift 2 ;;
    --image) value "$@"; FILAX_IMAGE=$2; shift 2 ;;
    --accelerator) value "$@"; FILAX_ACCELERATOR=$2; shift 2 ;;
    --topology) value "$@"; FILAX_TOPOLOGY=$2; shift 2 ;;
    --hosts) value "$@"; FILAX_HOSTS=$2; shift 2 ;;
    --chips-per-host) value "$@"; FILAX_CHIPS_PER_HOST=$2; shift 2 ;;
    --dry-run) dry=1; shift ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) refuse "not understood: $1 (put the filax command after --)" ;;
  esac
done
for variable in FILAX_NAME FILAX_IMAGE FILAX_ACCELERATOR FILAX_TOPOLOGY FILAX_HOSTS; do
  option=$(echo "${variable#FILAX_}" | tr '[:upper:]_' '[:lower:]-')
  [ -n "${!variable}" ] || refuse "set --$option."
done
[ $# -gt 0 ] || refuse "put the filax command after --."
plain --name "$FILAX_NAME" '[a-z]([a-z0-9-]{0,50}[a-z0-9])?' stage4
plain --image "$FILAX_IMAGE" '[A-Za-z0-9][A-Za-z0-9._:/@-]*' registry/filax:1
plain --accelerator "$FILAX_ACCELERATOR" '[a-z0-9]([a-z0-9-]*[a-z0-9])?' tpu-v5p-slice
plain --topology "$FILAX_TOPOLOGY" '[0-9]+(x[0-9]+)+' 4x4x4
number --hosts "$FILAX_HOSTS" 1
number --chips-per-host "$FILAX_CHIPS_PER_HOST" 1
restartable "$@"
# shellcheck source=launch/flags.sh
. "$(dirname "$0")/flags.sh"
export FILAX_TPU_FLAGS="${TPU_FLAGS[*]}"
# JSON is YAML. Kubernetes replaces $(NAME) in arguments; a doubled $ is one that it leaves alone.
FILAX_ARGS=$(python3 -c 'import json, sys
print(json.dumps([word.replace("$", "$$") for word in sys.argv[1:]]))' "${command[@]}")

filled=$(python3 -c 'import os, string, sys
print(string.Template(sys.stdin.read()).substitute(os.environ), end="")' \
  < <(sed '/^#/d' "$(dirname "$0")/gke.yaml"))
if [ -n "$dry" ]; then echo "$filled"; else kubectl apply -f - <<< "$filled"; fi
