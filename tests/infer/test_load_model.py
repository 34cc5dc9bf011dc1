# SPDX-License-Identifier: Apache-2.0
"""Loading what training leaves: the same parameters, and one sentence for what is missing."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import filax
from filax.cli import errors
from filax.models.layers_apart import layers_apart
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run"))


def test_a_run_or_one_of_its_steps_gives_model_and_parameters(run):
  want = tiny_checkpoint.tiny_parameters(tiny_checkpoint.tiny_config())
  for path in (run, f"{run}/checkpoints/0"):
    session = filax.load(path)
    jax.tree.map(np.testing.assert_array_equal, session.params, layers_apart(want))
    selector = session.model.selector
    assert type(selector).__name__ == "KMeans" and selector.scenes == 2
    assert session.processor.tokenizer.vocab_size <= session.model.vocab
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(session.params))


def test_parameters_may_be_held_in_half_precision(run):
  params = filax.load(run, param_dtype="bfloat16").params
  assert params["llm"]["embed_tokens"]["embedding"].dtype == jnp.bfloat16
  assert params["merger"]["weight"].dtype == jnp.float32  # Its steps are too small for half.


def test_several_devices_give_the_same_answer(run, tmp_path):
  video = clips.write_video(tmp_path / "a.mp4", 30)
  answers, all_devices = [], jax.devices()
  for mesh in (None, dict(tensor=2, data=1, fsdp=1, seq=1)):
    devices = 1 if mesh is None else 2
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(jax, "devices", lambda n=devices: all_devices[:n])
      session = filax.load(run, mesh=mesh)
    kernel = session.params["llm"]["embed_tokens"]["embedding"]
    assert len(kernel.sharding.device_set) == devices
    answers.append(session.ask(video, "What shape is on red?"))
  assert answers[0] == answers[1]


def refusal(call, *args, **kwargs) -> str:
  with pytest.raises((ValueError, OSError)) as error:
    call(*args, **kwargs)
  assert errors.run_verb(lambda _: call(*args, **kwargs), [], "chat") == 2
  return str(error.value)


def test_no_checkpoint_is_one_sentence(tmp_path):
  assert "No readable checkpoint" in refusal(filax.load, tmp_path / "nowhere")
  assert "No readable checkpoint" in refusal(filax.load, tmp_path)


@pytest.mark.parametrize("name", ["checkpoints/7", "7", "latest"])
def test_a_step_that_its_run_has_not_names_those_that_it_has(run, name):
  assert refusal(filax.load, f"{run}/{name}").endswith("The newest steps there are 0.")


def test_a_model_of_the_hub_is_downloaded_first(tmp_path):
  page = "https://huggingface.co/Qwen/Qwen2-7B/tree/main"
  assert "hf download Qwen/Qwen2-7B --local-dir Qwen2-7B" in refusal(filax.load, page)
  assert "is of an unknown kind" in refusal(filax.load, "https://example.org/model")
  assert "hf download ORG/NAME" in refusal(filax.load, tmp_path / "Qwen" / "Qwen2-7B")


def test_a_half_written_checkpoint_is_one_sentence(run, tmp_path):
  copy = pathlib.Path(shutil.copytree(run, tmp_path / "copy"))
  for file in (copy / "checkpoints" / "0" / "config").iterdir():
    file.unlink()
  assert "No readable checkpoint" in refusal(filax.load, copy)


def test_a_missing_tokenizer_says_where_it_belongs(run, tmp_path):
  copy = pathlib.Path(shutil.copytree(run, tmp_path / "copy"))
  (copy / "tokenizer.model").unlink()
  for path in (copy, copy / "checkpoints" / "0"):
    message = refusal(filax.load, path)
    assert "no tokenizer" in message and f"to {copy}." in message


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path):
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run", **{"model.llm.vocab": 200})
  assert "200 vocabulary rows" in refusal(filax.load, run)


def test_another_selector_shows_as_many_tokens(run):
  session = filax.load(run)
  other = session.with_selector("uniform")
  assert type(other.model.selector).__name__ == "Uniform"
  assert other.processor.sampling["frames"] == 6
  assert session.with_selector("kmeans") is session
  back = other.with_selector("kmeans")
  assert back.model.selector.scenes == 2 and back.processor.sampling["frames"] == 24
  with pytest.raises(ValueError, match=r"selectors/magic\.py.*kmeans"):
    session.with_selector("magic")
