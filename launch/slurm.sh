#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run on a Slurm cluster of GPU nodes: one process per node, requeued and resumed when preempted.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'TEXT'
usage: launch/slurm.sh [options] -- <verb> [options of the verb]

  --nodes N         default 1
  --gpus N          GPUs per node (default 8)
  --partition P     default: the cluster's
  --account A       default: yours
  --time T          limit, e.g. 24:00:00 (default 24:00:00)
  --name NAME       job name (default filax)
  --python PATH     the environment's python (default .venv/bin/python)
  --dry-run         print the batch script and stop

  launch/slurm.sh --nodes 4 -- train --config configs/fila_stage4.py --workdir /data/stage4
TEXT
}

nodes=1 gpus=8 partition='' account='' time=24:00:00 name=filax python=.venv/bin/python dry=''
while [ $# -gt 0 ]; do
  case "$1" in
    --nodes) value "$@"; nodes=$2; shift 2 ;;
    --gpus) value "$@"; gpus=$2; shift 2 ;;
    --partition) value "$@"; partition=$2; shift 2 ;;
    --account) value "$@"; account=$2; shift 2 ;;
    --time) value "$@"; time=$2; shift 2 ;;
    --name) value "$@"; name=$2; shift 2 ;;
    --python) value "$@"; python=$2; shift 2 ;;
    --dry-run) dry=1; shift ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) refuse "not understood: $1 (put the filax command after --)" ;;
  esac
done
[ $# -gt 0 ] || { usage >&2; exit 2; }
number --nodes "$nodes" 1
number --gpus "$gpus" 1
word='[A-Za-z0-9][A-Za-z0-9._,-]*'
plain --name "$name" "$word" filax
plain --time "$time" '[0-9:-]+|UNLIMITED|INFINITE' 24:00:00
[ -z "$partition" ] || plain --partition "$partition" "$word" gpu
[ -z "$account" ] || plain --account "$account" "$word" my_group
restartable "$@"

# shellcheck source=launch/flags.sh
. "$(dirname "$0")/flags.sh"
script="#!/usr/bin/env bash
#SBATCH --job-name=$name
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=$gpus
#SBATCH --time=$time
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
${partition:+#SBATCH --partition=$partition
}${account:+#SBATCH --account=$account
}set -uo pipefail
cd $(quoted "$PWD") || exit 1
export XLA_FLAGS=\"${GPU_FLAGS[*]} \${XLA_FLAGS:-}\"
# Two minutes before the time limit Slurm sends SIGTERM to the processes, not to this script: they
# save and end with 75, and the job goes back into the queue. scancel, and a scheduler that takes
# the nodes away, send it here too: then nothing is asked for. A node that dies is Slurm's to see.
told=''
trap 'told=1' TERM
srun --kill-on-bad-exit=1 $(quoted "$python" -m filax "${command[@]}") &
while :; do
  status=0
  wait \$! || status=\$?
  kill -0 \$! 2>/dev/null || break
done
if [ \$status -eq 75 ] && [ -z \"\$told\" ]; then
  exec scontrol requeue \"\$SLURM_JOB_ID\"
fi
exit \$status"
if [ -n "$dry" ]; then echo "$script"; else sbatch <<< "$script"; fi
