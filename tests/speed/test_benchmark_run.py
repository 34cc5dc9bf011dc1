# SPDX-License-Identifier: Apache-2.0
"""Runs of the benchmarks: real worker processes, tiny work."""

import itertools
import json
import os
import subprocess
import sys
import textwrap

import pytest

from benchmarks import __main__ as command
from benchmarks import harness, machine, row, worker
from benchmarks.rows import checkpoints

pytestmark = pytest.mark.slow


def test_every_row_has_a_name_and_ours_first():
  for name, entry in row.all_rows().items():
    assert entry.name == name
    assert entry.sides[0].name == row.OURS
    assert entry.shapes


def test_shapes_of_a_row_have_files_of_their_own():
  for entry in row.all_rows().values():
    shapes = entry.shapes_of_run(full=True)
    names = {row.case_name(entry, shape) for shape in shapes}
    assert len(names) == len(shapes)


def test_an_unknown_row_is_named_with_the_known_ones():
  with pytest.raises(ValueError, match=r"No row is named 'decod'.*decode_head"):
    row.chosen_rows(["decod"])


def test_a_missing_peer_is_skipped_with_its_command():
  side = row.Side("peer", print, (("no_such_module", "no-such-package"),))
  ours = row.Side(row.OURS, print)
  entry = row.BenchmarkRow("r", "what", "s", (ours, side), (dict(n=1),))
  sides, skipped = harness.sides_that_run(entry, peers=True)
  assert sides == [ours]
  assert skipped == {"peer": "not installed: pip install no-such-package"}


def test_short_work_is_repeated_and_the_median_counts():
  seconds = itertools.cycle([0.01, 0.05, 0.02])
  figures = worker.run_once(lambda: dict(seconds=next(seconds)), None)
  assert figures["repetitions"] > 3
  assert figures["seconds"] == 0.02


def test_long_work_is_not_repeated():
  figures = worker.run_once(lambda: dict(seconds=10.0), None)
  assert figures["repetitions"] == 1


def test_a_finished_row_is_not_run_again(tmp_path, capfd):
  argv = ["--rows", "start_import", "--peers", "no", "--repeats", "1", "--out", str(tmp_path)]
  command.main(argv)
  path = tmp_path / "cases/start_import.module-model.json"
  case = json.loads(path.read_text())
  assert len(case["sides"]["filax"]["samples"]) == 1
  assert case["skipped"] == {"transformers": "--peers no"}
  before = path.read_bytes()
  command.main(argv)
  assert "finished before" in capfd.readouterr().out
  assert path.read_bytes() == before
  assert "import in a new process" in (tmp_path / "results.md").read_text()
  assert json.loads((tmp_path / "results.json").read_text())["cases"] == [case]


def test_a_side_that_fails_is_reported_and_asked_no_more(tmp_path, monkeypatch):
  """Its work would disturb the other sides."""
  requests = []
  send = harness.Worker.send

  def note_request(worker, request):
    requests.append(request)
    send(worker, request)

  monkeypatch.setattr(harness.Worker, "send", note_request)
  entry = row.all_rows()["start_import"]
  record = harness.run_case(entry, dict(wrong=1), entry.sides[:1], 2, 60.0, tmp_path)
  assert "unexpected keyword argument 'wrong'" in record["sides"]["filax"]["error"]
  assert len(requests) == 1


def test_a_case_whose_sides_all_fail_is_listed_and_run_again(tmp_path, monkeypatch):
  budgets = []

  def fail(entry, shape, sides, repeats, budget, logs):
    del entry, shape, sides, repeats, logs
    budgets.append(budget)
    return dict(load=[0.0, 0.0], sides=dict(filax=dict(samples=[], error="a full disk")))

  monkeypatch.setattr(harness, "run_case", fail)
  argv = ["--rows", "start_import", "--out", str(tmp_path)]
  command.main(argv)
  assert "filax failed: a full disk (start_import" in (tmp_path / "results.md").read_text()
  command.main([*argv, "--repeats", "7"])
  assert budgets == [60.0, float("inf")]  # Seven repeats that were asked for are run.


class SlowAtFirst:
  """A side that is slow in its first repetition with any number of threads."""

  def __init__(self, seconds):
    self.threads = max(seconds)
    self.first = 0.0
    self._seconds = seconds
    self._seen = set()

  def run_round(self):
    is_new = self.threads not in self._seen
    self._seen.add(self.threads)
    return dict(seconds=9.0 if is_new else self._seconds[self.threads])


@pytest.mark.parametrize(
  ("seconds", "best"),
  [({2: 1.0, 1: 0.5}, 1), ({2: 0.5, 1: 1.0}, 2), ({8: 1.0, 4: 0.5, 1: 0.7}, 4), ({1: 1.0}, 1)],
)
def test_the_first_repetition_counts_for_no_number_of_threads(seconds, best):
  """In it, torch.compile compiles for this number."""
  side = SlowAtFirst(seconds)
  harness._warm_up(side)
  assert side.threads == best


def test_the_peak_is_that_of_the_process_that_worked():
  more = int(worker.peak_mib()) + 50
  subprocess.run([sys.executable, "-c", f"b'x' * {more * 2**20}"], check=True)
  assert worker.peak_mib() > more


def test_busy_seconds_are_those_of_the_usable_cores(monkeypatch):
  cores = os.sched_getaffinity(0)
  whole = machine.busy_seconds()
  total = 0.0
  for core in cores:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _, core=core: {core})
    total += machine.busy_seconds()
  assert total == pytest.approx(whole, abs=5)


def test_all_bytes_of_a_checkpoint_are_random(monkeypatch):
  """Zeros would be compressed, and those of the peer are random."""
  monkeypatch.setattr(checkpoints, "LEAF", 16)
  state = checkpoints._state(1)
  for tree in (state.params, *state.opt):
    for leaf in tree.values():
      assert len(set(leaf.tolist())) == 16


BLOCKED = """
import sys
for name in ("ml_collections", "grain", "av", "array_record"):
  sys.modules[name] = None
import benchmarks.gpu_filax, benchmarks.gpu_work
"""


def test_the_gpu_benchmark_needs_no_data_packages():
  subprocess.run([sys.executable, "-c", textwrap.dedent(BLOCKED)], check=True)


def test_decoding_from_a_full_cache_takes_some_time():
  """A chunk is given the whole state, so no two parts of it may be one array."""
  from benchmarks import gpu_work, models

  model = models.text_model(**gpu_work.SIZES["tiny"]["llm"])
  params = models.llm_params(model)
  cache = models.full_cache(model, params, batch=1, context=16, spare=8)
  assert models.decode_from_cache(model, params, cache, tokens=8) > 0


@pytest.mark.long
def test_the_gpu_benchmark_runs_tiny_sizes_on_a_cpu(tmp_path):
  groups = ["--only", "answer,llm", "--seconds", "400"]
  command_line = ["benchmarks/gpu.sh", "--size", "tiny", "--platform", "cpu", *groups]
  out = tmp_path / "gpu.json"
  subprocess.run([*command_line, "--out", str(out)], check=True, env=_environment())
  figures = json.loads(out.read_text())["figures"]
  errors = [figure for figure in figures if "error" in figure]
  assert not errors
  works = {(figure["side"], figure["work"]) for figure in figures}
  assert ("filax", "answer about 16 frames") in works
  assert ("torch", "answer about 16 frames") in works
  assert ("filax", "decode after 64, batch 2") in works


def _environment():
  return os.environ | {"PYTHON": sys.executable}
