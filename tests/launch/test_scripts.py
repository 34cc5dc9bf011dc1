# SPDX-License-Identifier: Apache-2.0
"""The launch scripts: clean shell, what they would run, and what they refuse."""

import pathlib
import shlex
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
SOURCED = ROOT / "launch/flags.sh"
SCRIPTS = sorted(path for path in (ROOT / "launch").glob("*.sh") if path != SOURCED)
COMMAND = ["train", "--config", "configs/fila_stage4.py:debug", "--workdir", "runs/a b"]


def run(script, *argv):
  return subprocess.run(
    ["bash", str(ROOT / "launch" / script), *argv], cwd=ROOT, capture_output=True, text=True,
    timeout=60, check=False)


@pytest.mark.parametrize("script", [*SCRIPTS, SOURCED], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
  tool = pathlib.Path(sys.executable).parent / "shellcheck"
  done = subprocess.run([tool, "-x", script], cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_and_refusals(script):
  assert "usage: launch/" in run(script.name, "--help").stdout
  done = run(script.name, *(["run"] if script.name == "tpu_vm.sh" else []), "--no-such-option")
  assert done.returncode == 2 and "--no-such-option" in done.stderr
  assert run(script.name).returncode == 2


def test_local_prints_one_command_a_process():
  done = run("local.sh", "--processes", "3", "--devices", "2", "--dry-run", "--", *COMMAND)
  lines = done.stdout.splitlines()
  assert len(lines) == 3
  for number, line in enumerate(lines):
    assert f"FILAX_PROCESS_ID={number}" in line and "FILAX_PROCESSES=3" in line
    assert "--xla_force_host_platform_device_count=2" in line and "-m filax train" in line


def test_tpu_vm_prints_what_every_host_runs():
  where = ["--name", "n", "--zone", "z", "--dry-run"]
  (line,) = run("tpu_vm.sh", "run", *where, "--", *COMMAND).stdout.splitlines()
  words = shlex.split(line)
  assert words[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "n"]
  assert "--worker=all" in words
  told = words[words.index("--command") + 1]
  assert "until .venv/bin/filax train" in told and "runs/a\\ b" in told
  assert "--xla_tpu_scoped_vmem_limit_kib=98304" in told
  created = run("tpu_vm.sh", "create", *where, "--type", "v5p-128", "--spot").stdout
  assert "queued-resources create n" in created and "--spot" in created
  assert "--accelerator-type v5p-128" in created
  for step in ("setup", "logs", "status", "stop", "delete"):
    done = run("tpu_vm.sh", step, *where)
    assert done.returncode == 0 and "gcloud" in done.stdout, step
  refused = run("tpu_vm.sh", "run", "--zone", "z", "--dry-run", "--", *COMMAND)
  assert refused.returncode == 2 and "--name" in refused.stderr


def test_slurm_prints_a_batch_script():
  done = run("slurm.sh", "--nodes", "4", "--account", "me", "--dry-run", "--", *COMMAND)
  assert "#SBATCH --nodes=4" in done.stdout and "#SBATCH --account=me" in done.stdout
  assert "#SBATCH --partition" not in done.stdout
  last = shlex.split(done.stdout.splitlines()[-1])
  assert last[0] == "srun" and last[-5:] == COMMAND
  assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


def test_gke_fills_in_a_valid_job():
  options = dict(
    name="stage4", image="registry/filax", accelerator="tpu-v5p-slice", topology="4x4x4",
    hosts="16")
  argv = [word for key, value in options.items() for word in (f"--{key}", value)]
  done = run("gke.sh", *argv, "--dry-run", "--", *COMMAND)
  assert done.returncode == 0, done.stderr
  made = yaml.safe_load(done.stdout)
  assert (made["apiVersion"], made["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
  assert made["metadata"]["name"] == "stage4"
  (part,) = made["spec"]["replicatedJobs"]
  job = dict(apiVersion="batch/v1", kind="Job", metadata=dict(name="x"), **part["template"])
  kubernetes_validate.validate(job, "1.30", strict=True)
  pod = job["spec"]["template"]["spec"]
  (flags,) = pod["containers"][0]["env"]
  assert flags["name"] == "LIBTPU_INIT_ARGS" and "async_collective" in flags["value"]
  assert pod["containers"][0]["args"] == COMMAND and job["spec"]["completions"] == 16
  assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4x4"
  refused = run("gke.sh", "--name", "x", "--dry-run", "--", *COMMAND)
  assert refused.returncode == 2 and "--image" in refused.stderr
