# SPDX-License-Identifier: Apache-2.0
"""`--config.profile=FIRST:STOP` leaves a trace, and changes nothing else."""

import json

import jax
import pytest

from filax import settings
from filax.cli import config_flags
from filax.testing import row_source
from filax.train import loop, profiler

pytestmark = pytest.mark.slow


def lines(folder):
  return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
  return [(record["step"], record["loss"]) for record in lines(folder)]


def train(folder, **changes):
  config = row_source.tiny_train_config(**dict(steps=4, checkpoint_every=100) | changes)
  return loop.train_pipeline(config, folder, row_source.RandomRows(8))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  folder = tmp_path_factory.mktemp("plain")
  train(folder)
  return folder


@pytest.fixture
def calls(monkeypatch):
  """What the profiler asks of jax.profiler, and nothing is traced."""
  calls = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
  return calls


def test_a_trace_is_written_and_losses_stay(tmp_path, plain, capsys):
  train(tmp_path, profile="2:4")
  traces = list((tmp_path / "profile").rglob("*.xplane.pb"))
  assert len(traces) == 1 and traces[0].stat().st_size > 0
  assert f"A trace of steps 2 to 3 is in {tmp_path}/profile." in capsys.readouterr().err
  assert losses(tmp_path) == losses(plain)


def test_without_a_range_there_is_no_trace(plain):
  assert not (plain / "profile").exists()


def test_a_range_from_the_first_step_on(tmp_path, calls):
  train(tmp_path, profile="1:3")
  assert calls == ["start", "stop"]


def test_a_range_beyond_the_last_step_is_never_begun(tmp_path, calls):
  train(tmp_path, profile="100:102")
  assert calls == []


def test_a_run_that_ends_within_the_range_stops_the_trace(tmp_path, calls):
  train(tmp_path, profile="3:100")
  assert calls == ["start", "stop"]


def test_a_start_within_the_range_traces_the_rest(tmp_path, calls):
  train(tmp_path, steps=4)
  train(tmp_path, steps=6, profile="4:7")
  assert calls == ["start", "stop"]


def test_a_config_without_the_setting_trains_and_resumes(tmp_path, plain):
  """Run folders of before have no `profile` in their config.json."""
  config = row_source.tiny_train_config(steps=4, checkpoint_every=2)
  with config.unlocked():
    del config.profile
  loop.train_pipeline(config, tmp_path, row_source.RandomRows(8))
  assert "profile" not in json.loads((tmp_path / "config.json").read_text())
  summary = train(tmp_path, steps=6)
  assert (summary["first_step"], summary["steps"]) == (4, 6)


def test_the_flag(tmp_path):
  config, _ = config_flags.read_config(
    ["--config=configs/fila_stage4.py:debug", "--config.profile=10:15"],
  )
  assert profiler.step_range(config.profile) == range(10, 15)


@pytest.mark.parametrize("value", ["10", "10:", ":5", "0:4", "5:5", "a:b", "-1:3", "1:2:3", 10])
def test_what_is_no_range_is_refused(value):
  with pytest.raises(ValueError, match=r"config\.profile=.* cannot be used. Set it to .*10:15"):
    settings.check_settings(dict(profile=value))
