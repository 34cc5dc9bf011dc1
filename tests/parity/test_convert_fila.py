# SPDX-License-Identifier: Apache-2.0
"""An exported FiLA answers in PyTorch with the tokens of `filax chat`, in float32."""

import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers as tokenizers_library
import torch
import transformers

from data_pipelines.text import templates, tokenizers
from data_pipelines.text.chat_template import ChatTemplate
import filax
from filax.checkpoint import store
from filax.checkpoint.tree import flatten_tree
from filax.convert import export_folder, import_folder, import_inputs, processor_files
from filax.infer import encode
from filax.spec import TEXT
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"
CASES = {
  "vision": {"model.merge_stage": "vision"},
  "projector": {"model.merge_stage": "projector", "data.time_prompt": "fila"},
  "pool": {"model.merge_stage": "pool", "model.projector.newline": "grid"},
  "no newline": {"model.projector.newline": "none"},
  "mean": {"model.merger": dict(name="mean"), "data.time_prompt": "llava"},
  "uniform": {
    "infer.selector": dict(name="uniform", size=3),
    "model.projector.newline": "frame",
    "infer.sampling.frames": 9,
    "data.system": "You see.",
  },
  "short video": {
    "infer.selector.history": "dissimilar",
    "infer.sampling.frames": 60,
    "infer.selector.scenes": 12,
  },
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  return clips.write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


def exported(folder, form="hf", **changes):
  """(run, export) of a random FiLA."""
  run = tiny_checkpoint.write_checkpoint(folder / "run", **changes)
  request = export_folder.ExportRequest(
    run, folder / form, form, tokenizer=tokenizers.load_tokenizer(run)
  )
  export_folder.export_checkpoint(request)
  return run, folder / form


def answer_of_chat(run, video, new=8):
  """(ids, frames of every group) that FiLax gives."""
  session = filax.load(run)
  media = encode.encode_video(session, session.read_video(video))
  prompt, index = session.processor.encode_prompt(templates.question(QUESTION), [media])
  made = session.generate(
    [prompt], table=media.table[None], visual_index=[index], max_new_tokens=new
  )
  return made.tokens[0], media.groups


def program(folder):
  """run_torch.py of a folder as a module."""
  sys.path.insert(0, str(folder))
  try:
    for name in ("fila_video", "prompts", "run_torch"):
      sys.modules.pop(name, None)
    return importlib.import_module("run_torch")
  finally:
    sys.path.remove(str(folder))


@pytest.mark.parametrize("name", CASES)
def test_run_torch_gives_the_tokens_of_chat(name, video, tmp_path):
  changes = dict(CASES[name])
  run, folder = exported(tmp_path, **changes)
  expected, _ = answer_of_chat(run, video)
  settings_of_folder = json.loads((folder / "generation_config.json").read_text())
  settings_of_folder["repetition_penalty"] = 0.01  # As released folders have one, but obvious.
  (folder / "generation_config.json").write_text(json.dumps(settings_of_folder))
  tools = program(folder)
  model, settings, weight = tools.load_model(folder)
  assert (weight is None) == (name == "mean")
  ids, _ = tools.answer_question(
    model,
    settings,
    weight,
    tools.fila_video.TextTokenizer(folder),
    video,
    QUESTION,
    max_new_tokens=8,
  )
  assert ids == expected and len(set(ids)) > 1


@pytest.mark.parametrize("template", ["chatml", "brief", "plain"])
@pytest.mark.parametrize("time_prompt", ["none", "fila", "llava"])
def test_the_prompt_is_that_of_chat(template, time_prompt, video, tmp_path):
  run, folder = exported(
    tmp_path,
    **{"data.template": template, "data.time_prompt": time_prompt, "data.system": "You see."},
  )
  session = filax.load(run)
  media = encode.encode_video(session, session.read_video(video))
  expected, index = session.processor.encode_prompt(templates.question(QUESTION), [media])
  tools = program(folder)
  settings = json.loads((folder / "config.json").read_text())["fila_config"]
  tokenizer, times = tools.fila_video.TextTokenizer(folder), media.text.times
  before, after = tools.fila_video.prompt_ids(
    tokenizer, settings, QUESTION, media.text.duration, times, media.text.group_times
  )
  shown = np.flatnonzero(index != TEXT)
  assert before == expected[: shown[0]] and after == expected[shown[-1] + 1 :]
  assert tools.fila_video.stop_ids(tokenizer, settings) == list(session.processor.stop)


CHATML = (
  "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
  "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITHOUT_CONTROLS = (  # Cuts spaces off, as the templates of Llama do.
  "{% for message in messages %}{% if message['role'] == 'system' %}<<{{ message['content'] }}>> "
  "{% else %}[{{ message['role'] }}] {{ message['content'].strip() }} {{ eos_token }}{% endif %}"
  "{% endfor %}{% if add_generation_prompt %}[answer] {% endif %}"
)


@pytest.mark.parametrize("source", [CHATML, WITHOUT_CONTROLS])
@pytest.mark.parametrize("time_prompt, system", [("none", ""), ("fila", "You see.")])
def test_the_prompt_of_a_chat_template_is_that_of_chat(
  source, time_prompt, system, video, tmp_path
):
  """transformers renders it in the exported folder, jinja2 here."""
  settings = {"data.template": "chat", "data.time_prompt": time_prompt, "data.system": system}
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run", **settings)
  tokenizer_config = dict(chat_template=source, eos_token="<|im_end|>")
  (tmp_path / "run/tokenizer_config.json").write_text(json.dumps(tokenizer_config))
  request = export_folder.ExportRequest(
    run, tmp_path / "hf", "hf", tokenizer=tokenizers.load_tokenizer(run)
  )
  export_folder.export_checkpoint(request)
  session = filax.load(run)
  media = encode.encode_video(session, session.read_video(video))
  expected, index = session.processor.encode_prompt(templates.question(QUESTION), [media])
  tools = program(tmp_path / "hf")
  config = json.loads((tmp_path / "hf/config.json").read_text())
  exported_settings = tools.fila_video.supported_settings(config["fila_config"])
  tokenizer = tools.fila_video.TextTokenizer(tmp_path / "hf")
  before, after = tools.fila_video.prompt_ids(
    tokenizer,
    exported_settings,
    QUESTION,
    media.text.duration,
    media.text.times,
    media.text.group_times,
  )
  shown = np.flatnonzero(index != TEXT)
  assert before == expected[: shown[0]] and after == expected[shown[-1] + 1 :]
  assert tools.fila_video.stop_ids(tokenizer, exported_settings) == list(session.processor.stop)


def test_a_processor_writes_pictures_into_the_chat_template():
  template = processor_files.processor_template(
    dict(data=dict(template="chat")), ChatTemplate(CHATML, {})
  )
  content = [dict(type="text", text="What is it?"), dict(type="video")]
  messages = [dict(role="user", content=content), dict(role="assistant", content="A dog.")]
  backend = tokenizers_library.Tokenizer(tokenizers_library.models.BPE())
  renderer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
  text = renderer.apply_chat_template(messages, chat_template=template, tokenize=False)
  assert text == (
    "<|im_start|>user\n<video>\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA dog.<|im_end|>\n"
  )


@pytest.mark.parametrize("form", ["hf-remote", "llava"])
def test_the_other_forms_give_the_same_tokens(form, video, tmp_path):
  run, folder = exported(tmp_path, form)
  expected, _ = answer_of_chat(run, video)
  done = subprocess.run(
    [
      sys.executable,
      folder / "run_torch.py",
      "--video",
      video,
      "--question",
      QUESTION,
      "--json",
      "--max-new-tokens",
      "8",
    ],
    capture_output=True,
    text=True,
    check=True,
  )
  assert json.loads(done.stdout)["ids"] == expected


def test_the_selection_in_numpy_is_ours(video, tmp_path):
  run, folder = exported(tmp_path)
  _, groups = answer_of_chat(run, video)
  tools = program(folder)
  model, settings, _ = tools.load_model(folder)
  frames, times, _ = tools.fila_video.read_video(
    video, settings, settings["model"]["encoder"]["size"]
  )
  with torch.no_grad():
    means = tools.encode_frames(model, frames).mean(1).numpy()
  chosen = tools.fila_video.select_frames(means, settings["infer"]["selector"], times)
  assert chosen.tolist() == groups.tolist()


@pytest.mark.parametrize("stage", ["vision", "projector", "pool"])
def test_the_modelling_file_fuses_as_we_do(stage, tmp_path):
  run, folder = exported(tmp_path, "hf-remote", **{"model.merge_stage": stage})
  os.environ["HF_MODULES_CACHE"] = str(tmp_path / "modules")
  importlib.reload(transformers.dynamic_module_utils)
  theirs, info = transformers.AutoModelForImageTextToText.from_pretrained(
    folder, trust_remote_code=True, output_loading_info=True
  )
  assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
  assert type(theirs).__name__ == "FilaForConditionalGeneration"
  model, params = filax.load(run)
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (6, model.encoder.size, model.encoder.size, 3)).astype(np.uint8)
  layout = model.layout()
  chosen = model.clone(selector=filax.build("selector", dict(name="uniform", size=3)))
  embed = jax.jit(functools.partial(chosen.apply, method="embed"))
  images = jnp.zeros((1, 0, *frames.shape[1:]), jnp.uint8)
  visual = embed({"params": params}, jnp.asarray(frames[None]), jnp.ones((1, 6), bool), images)
  table = visual.table[0]
  x = (torch.tensor(frames).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
  with torch.no_grad():
    mine = theirs.eval().fused(x).numpy()
  np.testing.assert_allclose(mine, np.asarray(table), atol=1e-4, rtol=1e-4)
  ids = torch.full((1, 2 * layout.tokens_per_group + 5), theirs.config.video_token_index)
  ids[0, :2], ids[0, -2:] = 5, 6
  with torch.no_grad():
    logits = theirs(input_ids=ids, pixel_values_videos=x[None]).logits
    made = theirs.generate(
      input_ids=ids,
      pixel_values_videos=x[None],
      attention_mask=torch.ones_like(ids),
      max_new_tokens=3,
      do_sample=False,
      eos_token_id=None,
      pad_token_id=0,
    )
  assert made[0, ids.shape[1]] == logits[0, -1].argmax()


@pytest.mark.parametrize("newline", ["one_token", "none"])
def test_the_stock_class_ignores_the_fusion_that_lies_aside(newline, tmp_path):
  _, folder = exported(tmp_path, **{"model.projector.newline": newline})
  assert (folder / "fila" / "scene_merger.safetensors").exists()
  _, info = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
    folder, output_loading_info=True
  )
  assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("form", ["hf", "hf-remote", "llava"])
def test_fila_there_and_back(form, tmp_path):
  run, folder = exported(tmp_path, form)
  assert (folder / "tokenizer.model").read_bytes() == (
    pathlib.Path(run) / "tokenizer.model"
  ).read_bytes()
  request = import_inputs.ImportRequest(
    out=tmp_path / "back", source=folder, tokenizer=tokenizers.load_tokenizer(folder)
  )
  import_folder.import_checkpoint(request)
  before, after = store.restore_params(run)[0], store.restore_params(tmp_path / "back")[0]
  before = flatten_tree(before)
  after = flatten_tree(after)
  assert before.keys() == after.keys()
  vocab = 512
  for path, x in before.items():
    x = np.asarray(x)
    if path == "llm/embed_tokens/embedding":  # Padding rows are not exported.
      x = np.concatenate([x[:vocab], np.zeros_like(x[vocab:])])
    np.testing.assert_array_equal(x, np.asarray(after[path]), err_msg=path)
  kept = store.read_config(tmp_path / "back")["infer"]["selector"]
  assert kept == store.read_config(run)["infer"]["selector"]
