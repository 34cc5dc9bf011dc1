#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run on a Slurm cluster of GPU nodes: one process a node, requeued and resumed when preempted.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/slurm.sh [options] -- <verb> [options of the verb]

  --nodes N         default 1
  --gpus N          GPUs a node (default 8)
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
    --nodes) nodes=$2; shift 2 ;;
    --gpus) gpus=$2; shift 2 ;;
    --partition) partition=$2; shift 2 ;;
    --account) account=$2; shift 2 ;;
    --time) time=$2; shift 2 ;;
    --name) name=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --dry-run) dry=1; shift ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) echo "launch/slurm.sh: not understood: $1" >&2; exit 2 ;;
  esac
done
[ $# -gt 0 ] || { usage >&2; exit 2; }

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
${partition:+#SBATCH --partition=$partition
}${account:+#SBATCH --account=$account
}set -euo pipefail
cd $(printf '%q' "$PWD")
export XLA_FLAGS=\"${GPU_FLAGS[*]} \${XLA_FLAGS:-}\"
# A node that dies ends the step; --requeue starts it again and the run resumes by itself.
srun --kill-on-bad-exit=1 $(printf '%q ' "$python" -m filax "$@")"
if [ -n "$dry" ]; then echo "$script"; else sbatch <<< "$script"; fi
