# SPDX-License-Identifier: Apache-2.0
"""--mesh and --dtype: several devices answer as one does, in other layouts."""

import argparse
import json

import jax
import pytest

import filax
from filax.cli import checkpoint_options
from filax.cli.main import main
from filax.infer import device_mesh
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
  """A manifest of three questions about two videos."""
  folder = tmp_path_factory.mktemp("questions")
  records = []
  for number in range(3):
    name = f"{number % 2}.mp4"
    clips.write_video(folder / name, 30 + number % 2)
    turns = [
      {"from": "human", "value": f"<video>\n{QUESTION} {number}"},
      {"from": "gpt", "value": "circle"},
    ]
    records.append(dict(id=str(number), video=name, conversations=turns))
  (folder / "m.json").write_text(json.dumps(records))
  return str(folder / "m.json")


def answers(session, questions):
  report = filax.evaluate(session, questions, progress=False)
  return {row["id"]: row["answer"] for row in report["answers"]}


@pytest.fixture(scope="module")
def expected(run, questions):
  """The answers of one device."""
  return answers(filax.load(run), questions)


@pytest.mark.parametrize("mesh", ["rows", "parameters", dict(data=2, seq=2, fsdp=-1)], ids=str)
def test_several_devices_answer_as_one(run, questions, expected, mesh):
  session = filax.load(run, mesh=mesh)
  assert session.processor.mesh.size == len(jax.devices()) == 8
  assert answers(session, questions) == expected


@pytest.mark.parametrize("count", [1, 8])
def test_an_unknown_layout_is_named_on_any_number_of_devices(count):
  with pytest.raises(ValueError, match="mesh='colums' is not a layout"):
    device_mesh.make_device_mesh("colums", {}, jax.devices()[:count])


def test_devices_that_answer_rows_have_all_parameters(run):
  params = filax.load(run, mesh="rows").params
  assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(params))


def test_devices_that_share_parameters_hold_parts(run):
  session = filax.load(run, mesh="parameters")
  kernel = session.params["llm"]["layers"]["mlp"]["up_proj"]["kernel"]
  shard = kernel.addressable_shards[0]
  assert shard.data.size * 8 == kernel.size


def test_devices_that_cannot_share_evenly_leave_the_work_to_one(run, monkeypatch):
  devices = jax.devices()
  monkeypatch.setattr(jax, "devices", lambda: devices[:7])
  assert filax.load(run, mesh="parameters").processor.mesh is None


def test_one_device_needs_no_mesh(run, monkeypatch):
  devices = jax.devices()
  monkeypatch.setattr(jax, "devices", lambda: devices[:1])
  assert filax.load(run, mesh="rows").processor.mesh is None


def test_dtype_is_that_of_parameters_and_computation(run):
  session = filax.load(run, dtype="bfloat16")
  assert session.model.llm.dtype == session.model.llm.param_dtype == "bfloat16"
  assert session.params["llm"]["embed_tokens"]["embedding"].dtype == "bfloat16"


def test_a_dtype_that_cannot_be_is_one_sentence(run):
  with pytest.raises(ValueError, match="float64"):
    filax.load(run, dtype="float64")


def test_commands_take_a_mesh_and_a_dtype(run, questions, tmp_path):
  devices = ["--mesh", "data=1,fsdp=-1", "--dtype", "bfloat16"]
  video = clips.write_video(tmp_path / "a.mp4", 30)
  sheet = str(tmp_path / "sheet.png")
  common = ["--checkpoint", run, *devices]
  assert main(["scenes", *common, "--video", video, "--out", sheet, "--count", "1"]) == 0
  assert main(["evals", *common, "--manifest", questions, "--limit", "1"]) == 0


@pytest.mark.parametrize(
  ("mesh", "sentence"),
  [
    ("data=1,tensor=2", "needs 2 devices, but there are 8"),
    ("model=8", "config.mesh.model is not an axis"),
    ("data", "Set it to sizes of axes, such as data=1,tensor=2"),
    ("data=two", "Set it to sizes of axes"),
    ("data=1,data=8", "Set it to sizes of axes"),
    ("data=-1,fsdp=-1", "at most one of them -1"),
  ],
)
def test_a_mesh_that_cannot_be_is_one_sentence(run, questions, mesh, sentence, capsys):
  assert main(["evals", "--checkpoint", run, "--manifest", questions, "--mesh", mesh]) == 2
  assert sentence in capsys.readouterr().err


def test_sizes_of_a_mesh():
  assert checkpoint_options.mesh_sizes("data=1,tensor=-1") == dict(data=1, tensor=-1)
  with pytest.raises(argparse.ArgumentTypeError):
    checkpoint_options.mesh_sizes("")


@pytest.mark.parametrize("mesh", [None, "rows"])
def test_a_mesh_that_the_user_has_set_does_not_count(mesh, run, questions, expected, tmp_path):
  video = clips.write_video(tmp_path / "a.mp4", 30)
  users = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
  before = filax.load(run, mesh=mesh)
  answer = before.ask(video, QUESTION)
  with jax.set_mesh(users):
    session = filax.load(run, mesh=mesh)
    assert "".join(session.stream(video, QUESTION)) == answer == before.ask(video, QUESTION)
    assert answers(session, questions) == expected
    assert session.scenes(video)
    assert jax.sharding.get_abstract_mesh() == users.abstract_mesh
