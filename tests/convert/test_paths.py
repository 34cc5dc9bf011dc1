# SPDX-License-Identifier: Apache-2.0
"""Paths are those of the shell: relative, of the folder that one stands in, or below ~."""

import pathlib

import numpy as np
import pytest

from filax import files
from filax.checkpoint import storage, store, streamed
from filax.cli import main as command
from filax.infer import session
from filax.testing import clips, manifests, qwen2_folder, tiny_checkpoint


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A folder with a checkpoint `w1` of a language model, and its source `hub`."""
  folder = tmp_path_factory.mktemp("home")
  qwen2_folder.write_qwen2_folder(folder / "hub")
  assert convert("from", "--source", folder / "hub", "--out", folder / "w1") == 0
  return folder


@pytest.fixture
def here(home, monkeypatch):
  """Stands in `home`, which is ~."""
  monkeypatch.chdir(home)
  monkeypatch.setenv("HOME", str(home))
  return home


def convert(*argv):
  return command.main(["convert", *map(str, argv)])


@pytest.mark.parametrize(
  ("folder", "name"),
  [
    ("", "w1"),
    ("", "./w1"),
    ("w1", "."),
    ("", "w1/checkpoints/0"),
    ("w1/checkpoints", "0"),
    ("hub", "../w1"),
    ("hub", "~/w1"),
    ("w1/checkpoints/0", "."),
  ],
)
def test_a_checkpoint_is_exported_from_any_folder(folder, name, here, tmp_path, monkeypatch):
  monkeypatch.chdir(here / folder)
  out = tmp_path / "out"
  assert convert("to", "--checkpoint", name, "--format", "qwen2", "--out", out) == 0
  assert list(out.glob("*.safetensors"))


def test_folders_are_read_and_written_relative_and_below_home(here, monkeypatch):
  for number, (source, out) in enumerate([("hub", "./a"), ("~/hub", "~/b"), ("./hub", "c")]):
    assert convert("from", f"--source={source}", f"--out={out}") == 0
    assert (here / "abc"[number] / "checkpoints" / "0").is_dir()
  assert not (here / "~").exists()


def test_readers_of_items_take_relative_paths(here):
  step = pathlib.Path("w1/checkpoints/0")
  assert streamed.step_folder("w1") == here / step
  assert streamed.read_json(step, "config")["model"]["llm"]["width"] == qwen2_folder.WIDTH
  shapes = streamed.shapes(step)
  assert streamed.read_parameter(step, "llm/norm/scale").shape == tuple(
    shapes["llm/norm/scale"].shape
  )
  layers = list(streamed.read_layers(step, "llm/layers/input_layernorm/scale"))
  assert len(layers) == qwen2_folder.DEPTH


@pytest.mark.parametrize("name", ["w1", "./w1", "~/w1", "w1/checkpoints/0"])
def test_training_starts_from_relative_paths(name, here):
  """What config.init_from reads."""
  params, _, _ = store.restore_params(name)
  assert np.shape(params["llm"]["norm"]["scale"]) == (qwen2_folder.WIDTH,)
  assert store.read_config(name)["model"]["llm"]["name"] == "qwen2"


@pytest.mark.parametrize("name", ["run", "~/run", "run/checkpoints/0"])
def test_questions_are_asked_from_any_folder(name, tmp_path, monkeypatch):
  tiny_checkpoint.write_checkpoint(tmp_path / "run")
  clips.write_video(tmp_path / "a.mp4", 40)
  manifests.write_manifest(
    tmp_path / "m.json", [manifests.question_record("What?", "x", video="a.mp4")]
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))
  words = [f"--checkpoint={name}", "--manifest=~/m.json", "--root=.", "--out=~/scores/out"]
  assert command.main(["evals", *words]) == 0
  assert (tmp_path / "scores" / "out" / "result.json").exists()
  assert session.load(name).processor.source == name


def test_urls_stay_as_they_are(here, monkeypatch):
  monkeypatch.setattr(storage, "_answered", {"gs://bucket"})
  assert files.absolute("gs://bucket/run") == str(streamed.absolute("gs://bucket/run"))
  assert files.absolute("gs://bucket/run") == "gs://bucket/run"
  assert files.absolute("~/w1") == files.absolute("./w1") == str(here / "w1")


@pytest.mark.parametrize("flag", ["source", "llm", "encoder"])
def test_an_input_that_is_not_there_is_named(flag, here, tmp_path, capsys):
  out = tmp_path / "out"
  assert convert("from", f"--{flag}", "no/such/folder", "--out", out) == 2
  said = capsys.readouterr().err
  assert f"There is no file or folder no/such/folder. Give --{flag} " in said
  assert said.count("\n") == 1 and "config.json" not in said and not out.exists()
