# SPDX-License-Identifier: Apache-2.0
"""The launch scripts: clean shell, what they would run, and what they refuse."""

import os
import pathlib
import shlex
import subprocess
import sys
import time

import kubernetes_validate
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
SOURCED = [ROOT / "launch/common.sh", ROOT / "launch/flags.sh"]
SCRIPTS = sorted(path for path in (ROOT / "launch").glob("*.sh") if path not in SOURCED)
STEP = {"tpu_vm.sh": ["run"], "keep_running.sh": ["start"]}
COMMAND = ["train", "--config", "configs/fila_stage4.py:debug", "--workdir", "runs/a b"]
STARTED = ["train", "--exit-when-stopped", "75", *COMMAND[1:]]
# Words that a shell, YAML or Kubernetes would change, were they not quoted.
ODD = [
  "o'brien",
  "a b",
  "$HOME",
  "$(HOSTNAME)",
  "$$",
  "a;b",
  "(x)",
  "line\nbreak",
  "",
  "*",
  "~",
  '"q"',
]


def run(script, *argv):
  return subprocess.run(
    ["bash", str(ROOT / "launch" / script), *argv],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


@pytest.mark.parametrize("script", [*SCRIPTS, *SOURCED], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
  tool = pathlib.Path(sys.executable).parent / "shellcheck"
  done = subprocess.run([tool, "-x", script], cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_and_refusals(script):
  assert "usage: launch/" in run(script.name, "--help").stdout
  done = run(script.name, *STEP.get(script.name, []), "--no-such-option")
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
  words = shlex.split(run("tpu_vm.sh", "run", *where, "--", *COMMAND).stdout)
  assert words[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "n"]
  assert "--worker=all" in words
  told = words[words.index("--command") + 1]
  assert "keep_running start -- .venv/bin/filax train" in told
  assert shlex.split(told)[-len(STARTED) :] == STARTED
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
  (line,) = [line for line in done.stdout.splitlines() if line.startswith("srun")]
  assert shlex.split(line)[-len(STARTED) - 1 : -1] == STARTED
  assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


def test_gke_fills_in_a_valid_job():
  options = dict(
    name="stage4", image="registry/filax", accelerator="tpu-v5p-slice", topology="4x4x4", hosts="16"
  )
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
  assert pod["containers"][0]["args"] == STARTED and job["spec"]["completions"] == 16
  assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4x4"
  refused = run("gke.sh", "--name", "x", "--dry-run", "--", *COMMAND)
  assert refused.returncode == 2 and "--image" in refused.stderr


def test_local_prints_what_can_be_pasted_back():
  done = run("local.sh", "--processes", "1", "--dry-run", "--", *COMMAND, *ODD)
  line = done.stdout.replace(" python3 -m filax ", " printf '[%s]' ")
  pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
  assert pasted.stdout == "".join(f"[{word}]" for word in [*STARTED, *ODD])


@pytest.fixture
def host(tmp_path):
  """Runs a step of tpu_vm.sh with a gcloud that does what sshd does: a shell runs the command."""
  program = tmp_path / "home/filax/.venv/bin/filax"
  program.parent.mkdir(parents=True)
  program.write_text(
    "#!/usr/bin/env bash\nprintf '[%s]' \"$@\" > words\n"
    "trap 'echo saved >> saved; exit 75' TERM\nwhile :; do sleep 0.1; done\n"
  )
  gcloud = tmp_path / "gcloud"
  gcloud.write_text(
    f'#!/usr/bin/env bash\nif [ "${{@: -2:1}}" = --command ]; then\n'
    f'  cd {tmp_path}/home\n  exec bash -c "${{@: -1}}"\nfi\n'
  )
  for path in (program, gcloud):
    path.chmod(0o755)

  def step(name, *words):
    return subprocess.run(
      ["bash", "launch/tpu_vm.sh", name, "--name", "n", "--zone", "z", *words],
      cwd=ROOT,
      env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
      capture_output=True,
      text=True,
      timeout=60,
      check=False,
    )

  step.folder = tmp_path / "home/filax"
  yield step
  step("stop")


def test_tpu_vm_runs_reports_and_stops(host):
  """No word is changed on the way, and the run is found by its number, not by its words."""
  assert host("status").stdout == "nothing runs\n"
  started = host("run", "--", *COMMAND, *ODD)
  assert started.stdout.startswith("started (process "), started.stderr
  deadline = time.monotonic() + 30
  while not (host.folder / "words").exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
  expected = "".join(f"[{word}]" for word in [*STARTED, *ODD])
  assert (host.folder / "words").read_text() == expected
  assert host("status").stdout.startswith("runs (process ")
  assert "already runs" in host("run", "--", *COMMAND).stderr
  assert host("stop").stdout == "stopped\n"
  assert (host.folder / "saved").read_text() == "saved\n"
  assert host("status").stdout.startswith("nothing runs\n")


def test_tpu_vm_leaves_no_copy_of_the_code(tmp_path):
  programs = tmp_path / "programs"
  temporary = tmp_path / "temporary"
  for folder in (programs, temporary):
    folder.mkdir()
  for name, text in (("git", 'echo code > "$4"'), ("gcloud", 'ls -l "$TMPDIR"')):
    (programs / name).write_text(f"#!/bin/sh\n{text}\n")
    (programs / name).chmod(0o755)
  done = subprocess.run(
    ["bash", "launch/tpu_vm.sh", "setup", "--name", "n", "--zone", "z"],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(temporary)},
  )
  assert done.returncode == 0, done.stderr
  assert "drwx------" in done.stdout, "Others could read the code."
  assert not list(temporary.iterdir())


def test_slurm_and_gke_keep_every_word():
  batch = run("slurm.sh", "--dry-run", "--", *COMMAND, *ODD).stdout
  shown = subprocess.run(
    ["bash"],
    input=f"srun() {{ shift; printf '[%s]' \"$@\"; }}\n{batch}",
    capture_output=True,
    text=True,
    check=False,
  )
  words = [".venv/bin/python", "-m", "filax", *STARTED, *ODD]
  assert shown.stdout == "".join(f"[{word}]" for word in words)
  argv = "--name x --image i --accelerator a --topology 1x1 --hosts 1 --dry-run --".split()
  filled = yaml.safe_load(run("gke.sh", *argv, *COMMAND, *ODD).stdout)
  (job,) = filled["spec"]["replicatedJobs"]
  arguments = job["template"]["spec"]["template"]["spec"]["containers"][0]["args"]
  # What Kubernetes makes of them: two $ are one, and with that $( is not a variable any more.
  assert [word.replace("$$", "$") for word in arguments] == [*STARTED, *ODD]
  assert not any("$(" in word.replace("$$", "") for word in arguments)


def test_only_train_is_told_how_to_end():
  done = run("local.sh", "--processes", "1", "--dry-run", "--", "evals", "--checkpoint", "c")
  assert "--exit-when-stopped" not in done.stdout


@pytest.mark.parametrize(
  ("script", "argv", "sentence"),
  [
    ("local.sh", ["--processes", "x", "--", *COMMAND], "--processes is 'x'"),
    ("local.sh", ["--processes", "0", "--", *COMMAND], "at least 1"),
    ("local.sh", ["--devices", "-1", "--", *COMMAND], "--devices is '-1'"),
    ("local.sh", ["--port", "70000", "--", *COMMAND], "70000"),
    ("local.sh", ["--processes"], "--processes needs a value"),
    ("slurm.sh", ["--nodes", "two", "--", *COMMAND], "--nodes is 'two'"),
    ("slurm.sh", ["--name", "a\n#SBATCH --uid=0", "--", *COMMAND], "--name is"),
    ("slurm.sh", ["--time", "soon", "--", *COMMAND], "--time is 'soon'"),
    ("slurm.sh", ["--gpus"], "--gpus needs a value"),
    ("tpu_vm.sh", ["logs", "--name", "n", "--zone", "z", "--worker", "one"], "--worker is 'one'"),
    ("tpu_vm.sh", ["run", "--name"], "--name needs a value"),
    ("tpu_vm.sh", ["run", "--name", "n", "--zone", "z"], "needs a filax command"),
    ("gke.sh", ["--hosts"], "--hosts needs a value"),
  ],
)
def test_a_wrong_value_is_one_sentence(script, argv, sentence):
  done = run(script, *argv)
  assert done.returncode == 2
  (line,) = done.stderr.splitlines() if "SBATCH" not in str(argv) else [done.stderr]
  assert sentence in line and line.startswith(f"launch/{script}: ")


@pytest.mark.parametrize(
  ("option", "value"),
  [
    ("--name", "Stage 4"),
    ("--name", "a: b"),
    ("--topology", "4*4"),
    ("--hosts", "many"),
    ("--image", "a b"),
    ("--accelerator", "x\ny: z"),
    ("--chips-per-host", "four"),
  ],
)
def test_gke_refuses_what_would_change_the_yaml(option, value):
  options = {
    "--name": "x",
    "--image": "i",
    "--accelerator": "a",
    "--topology": "1x1",
    "--hosts": "1",
  }
  words = [word for pair in (options | {option: value}).items() for word in pair]
  done = run("gke.sh", *words, "--dry-run", "--", *COMMAND)
  assert done.returncode == 2
  assert f"{option} is '" in done.stderr
