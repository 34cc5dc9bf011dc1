# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash in and out, against torch twins with the released parameter names."""

import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from released_flash import ENCODERS, TOKENS, released, tiny
from safetensors.torch import load_file
import torch
from twins import umt as twin_umt

from data_pipelines.text import templates, tokenizers
import filax
from filax import convert as convert_package
from filax.checkpoint import store, streamed
from filax.checkpoint.tuples import as_tuples
from filax.configs import vcf_stage1
from filax.convert import config_in, config_out, export_folder, import_folder, import_inputs
from filax.infer import encode
from filax.models import components
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow


def converted(out, **options):
  report = import_folder.import_checkpoint(import_inputs.ImportRequest(out=out, **options))
  config = as_tuples(streamed.read_json(streamed.step_folder(out), "config"))
  return config["model"], store.restore_params(out)[0], report


def towers():
  """The torch code that is shipped beside an export."""
  path = pathlib.Path(convert_package.__file__).parent / "export_kit" / "flash_towers.py"
  loader = importlib.machinery.SourceFileLoader("flash_towers", str(path))
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader("flash_towers", loader))
  loader.exec_module(module)
  return module


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_released_folder_gives_its_logits(name, tied, tmp_path):
  tower, projector, llm = released(tmp_path / "hub", name, tied)
  model, params, report = converted(
    tmp_path / "run", source=tmp_path / "hub", sets={"encoder.variant": "tiny"}
  )
  assert report["counts"]["consumed"] == len(load_file(tmp_path / "hub" / "model.safetensors"))
  assert report["counts"]["unused_by_design"] == 0
  assert components.build("llm", model["llm"]).tied == tied
  whole = components.build_video_lm(model)
  rng = np.random.default_rng(0)
  size = whole.encoder.size
  frames = rng.integers(0, 256, (8, size, size, 3)).astype(np.uint8)
  text = rng.integers(0, 160, 10)
  shown = 2 * whole.layout().tokens_per_group
  tokens = np.concatenate([text[:4], np.zeros(shown, int), text[4:]]).astype(np.int32)[None]
  index = np.full(tokens.shape, -1, np.int32)
  index[0, 4 : 4 + shown] = np.arange(shown)
  batch = dict(
    frames=frames[None],
    frame_segment_ids=np.ones((1, 8), np.int32),
    tokens=tokens,
    images=np.zeros((1, 0, size, size, 3), np.uint8),
    segment_ids=np.ones_like(tokens),
    visual_index=index,
    positions=np.arange(tokens.shape[1], dtype=np.int32)[None],
  )
  ours = jax.jit(
    lambda p, b: whole.apply({"params": p}, whole.apply({"params": p}, b), method="logits")
  )(params, {k: jnp.asarray(v) for k, v in batch.items()})
  with torch.no_grad():
    features = tower(twin_umt.standardised(frames.reshape(2, 4, size, size, 3)))
    merged = towers().merge_tokens(features, 4 * TOKENS, 16)
    x = llm.get_input_embeddings()(torch.tensor(tokens).long())
    x[0, 4 : 4 + shown] = projector(merged).flatten(0, 1)
    expected = llm(inputs_embeds=x).logits.numpy()
  np.testing.assert_allclose(np.asarray(ours), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ENCODERS)
def test_there_and_back_is_exact(name, kind, tmp_path):
  released(tmp_path / "hub", name, dtype=kind)
  converted(tmp_path / "run", source=tmp_path / "hub", sets={"encoder.variant": "tiny"})
  report = export_folder.export_checkpoint(
    export_folder.ExportRequest(tmp_path / "run", tmp_path / "out", "videochat-flash")
  )
  before = load_file(tmp_path / "hub" / "model.safetensors")
  after = load_file(tmp_path / "out" / "model-00001-of-00001.safetensors")
  assert before.keys() == after.keys()
  for key, x in before.items():
    assert x.dtype == after[key].dtype and torch.equal(x, after[key]), key

  def hashes(folder):
    return {
      t["name"]: t["sha256"]
      for t in json.loads((folder / "conversion_report.json").read_text())["tensors"]
    }

  assert hashes(tmp_path / "run") == hashes(tmp_path / "out")
  assert report["counts"]["consumed"] == len(after)
  _, again, _ = converted(tmp_path / "again", source=tmp_path / "out")
  jax.tree.map(np.testing.assert_array_equal, again, store.restore_params(tmp_path / "run")[0])


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_file_alone(name, tmp_path):
  tower, clip = tiny(name)
  state = dict(tower.state_dict())
  blocks = {k: v for k, v in state.items() if k.startswith("blocks.0.")}
  extra = {k.replace("blocks.0.", "blocks.2."): v for k, v in blocks.items()}  # Not read.
  state |= extra
  if name == "umt":
    state = {f"encoder.{k.replace('vision_layernorm', 'norm')}": v for k, v in state.items()}
    state["pool_norm.weight"] = torch.ones(4)
  else:
    state["clip_projector.norm1_q.weight"] = torch.ones(4)
  torch.save(state, tmp_path / "tower.pt")
  sets = {"encoder.name": name, "encoder.variant": "tiny"}
  model, params, report = converted(tmp_path / "run", source=tmp_path / "tower.pt", sets=sets)
  assert report["counts"]["unused_by_design"] == len(extra) + 1
  encoder = components.build("encoder", model["encoder"])
  frames = (
    np.random.default_rng(0)
    .integers(0, 256, (2, clip, encoder.size, encoder.size, 3))
    .astype(np.uint8)
  )
  ours = encoder.apply({"params": params["encoder"]}, jnp.asarray(frames))
  with torch.no_grad():
    expected = tower(twin_umt.standardised(frames)).numpy()
  np.testing.assert_allclose(
    np.asarray(ours).reshape(expected.shape), expected, atol=1e-4, rtol=1e-4
  )


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("frames", [1, 4])
def test_the_shipped_towers_equal_the_twins(name, frames):
  tower, _ = tiny(name)
  module = towers()
  spec = dict(components.build("encoder", dict(name=name, variant="tiny")).__dict__)
  mine = module.TOWERS[name](spec)
  mine.load_state_dict(tower.state_dict())
  pictures = (
    np.random.default_rng(0)
    .integers(0, 256, (frames, spec["size"], spec["size"], 3))
    .astype(np.uint8)
  )
  with torch.no_grad():
    x = module.standardised_pixels(pictures)[None]
    torch.testing.assert_close(
      mine(x), tower(twin_umt.standardised(pictures[None])), atol=1e-5, rtol=1e-5
    )


def test_a_fresh_model_from_a_tower_file_and_a_language_model(tmp_path):
  tower, _ = tiny("umt")
  torch.save({f"encoder.{k}": v for k, v in tower.state_dict().items()}, tmp_path / "tower.pt")
  released(tmp_path / "hub", "umt")
  c = vcf_stage1.get_config("debug")
  with c.unlocked():
    c.model.encoder = dict(name="umt", variant="tiny")
    c.model.llm = dict(
      name="qwen2",
      width=64,
      depth=2,
      heads=4,
      kv_heads=2,
      head_dim=16,
      mlp=96,
      vocab=160,
      positions=512,
      remat="none",
    )
  _, params, report = converted(
    tmp_path / "run",
    config=c.to_dict(),
    parts={"encoder": tmp_path / "tower.pt", "llm": tmp_path / "hub"},
  )
  assert {path.split("/")[0] for path in report["drawn_anew"]} == {"projector"}
  whole = components.build_video_lm(as_tuples(c.model.to_dict()))
  like = jax.eval_shape(whole.init, jax.random.key(0), whole.example())["params"]
  assert store.restore_params(tmp_path / "run", like)[1:] == ([], [])  # As training starts.
  assert jax.tree.structure(like) == jax.tree.structure(params)


@pytest.mark.parametrize(
  ("name", "encoder"),
  [
    ("umt-large", dict(name="umt", variant="L-224")),
    ("umt-hd-large", dict(name="umt", variant="L-448")),
    ("internvideo2", dict(name="internvideo2", variant="1B")),
  ],
)
def test_released_towers_are_known_by_name(name, encoder):
  assert config_in.architecture(with_dropout({}) | dict(mm_vision_tower=name))["encoder"] == encoder


SWITCHED_OFF = dict(
  mm_llm_compress=False,
  llm_compress_type="attention",
  llm_compress_layer_list=[24],
  llm_image_token_ratio_list=[1.0, 0.5],
)


def with_dropout(settings, depth=28):
  """A released config.json with some of its four settings of visual dropout."""
  return dict(
    model_type="videochat_flash_qwen",
    mm_vision_tower="umt-large",
    num_hidden_layers=depth,
    hidden_size=64,
    num_attention_heads=4,
    mm_projector_type="tome16_mlp_hd64",
    **settings,
  )


@pytest.mark.parametrize(
  ("settings", "ours"),
  [
    (SWITCHED_OFF, "off"),
    (dict(), "off"),
    (
      dict(
        mm_llm_compress=True,
        llm_compress_type="uniform0_attention",
        llm_compress_layer_list=[4, 18],
        llm_image_token_ratio_list=[1, 0.75, 0.25],
      ),
      "uniform0_attention",
    ),
    (
      dict(
        mm_llm_compress=True,
        llm_compress_type="attention",
        llm_compress_layer_list=[4, 18],
        llm_image_token_ratio_list=[1, 0.75, 0.25],
      ),
      "attention",
    ),
    (
      dict(
        mm_llm_compress=True,
        llm_compress_type="uniform",
        llm_compress_layer_list=[9],
        llm_image_token_ratio_list=[1.0, 0.3],
      ),
      ((9, "uniform", 0.3),),
    ),
    (
      dict(
        mm_llm_compress=True,
        llm_compress_type="uniform1_attention",
        llm_compress_layer_list=[2, 5, 9],
        llm_image_token_ratio_list=[1.0, 0.8, 0.6, 0.3],
      ),
      ((2, "uniform", 0.8), (5, "uniform", 0.6), (9, "attention", 0.3)),
    ),
    (
      dict(mm_llm_compress=True),  # What the released code takes for what is not said.
      ((8, "attention", 0.5), (16, "attention", 0.25), (24, "attention", 0.125)),
    ),
  ],
)
def test_visual_dropout_there_and_back(settings, ours):
  said = config_in.architecture(with_dropout(settings))
  assert said["llm"].get("dropout", "off") == ours
  llm = dict(name="qwen2", variant="7B") | ({} if ours == "off" else dict(dropout=ours))
  written = config_out.flash_config(
    dict(
      model=dict(
        encoder=dict(name="umt", variant="L-224"),
        selector=dict(name="clips", size=4),
        merger=dict(name="tome"),
        projector=dict(name="mlp", newline="none", pool_side=1),
        llm=llm,
        merge_stage="vision",
      )
    ),
    "bfloat16",
    None,
  )
  again = config_in.architecture({k: v for k, v in written.items() if k != config_in.KEY})
  assert again["llm"].get("dropout", "off") == ours
  for key in SWITCHED_OFF:
    if len(settings) == len(SWITCHED_OFF):
      assert written[key] == settings[key]


@pytest.mark.parametrize(
  ("settings", "sentence"),
  [
    (dict(llm_compress_layer_list=[4]), "Write one ratio more than layers"),
    (dict(llm_compress_type="random"), "llm_compress_type='random' is unknown"),
    (dict(llm_compress_layer_list=[30], llm_image_token_ratio_list=[1, 0.5]), "below 28"),
  ],
)
def test_visual_dropout_that_cannot_be(settings, sentence):
  with pytest.raises(ValueError, match=sentence):
    config_in.architecture(with_dropout(dict(mm_llm_compress=True) | settings))


def test_visual_dropout_that_only_we_have_is_not_exported():
  llm = dict(name="qwen2", variant="7B")
  for own in (
    dict(dropout="4:attention:0.5,9:uniform:0.2"),
    dict(dropout="uniform_4", dropout_positions="keep"),
  ):
    with pytest.raises(ValueError, match="drops uniformly first"):
      config_out.dropout_settings(components.build("llm", llm | own))


def test_run_torch_says_that_it_does_not_drop(tmp_path):
  released(tmp_path / "hub", "umt")
  file = tmp_path / "hub" / "config.json"
  file.write_text(
    json.dumps(
      json.loads(file.read_text())
      | dict(
        mm_llm_compress=True, llm_compress_layer_list=[1], llm_image_token_ratio_list=[1.0, 0.5]
      )
    )
  )
  converted(tmp_path / "run", source=tmp_path / "hub", sets={"encoder.variant": "tiny"})
  export_folder.export_checkpoint(
    export_folder.ExportRequest(tmp_path / "run", tmp_path / "out", "videochat-flash")
  )
  done = subprocess.run(
    [sys.executable, tmp_path / "out" / "run_torch.py", "--video", "x.mp4", "--question", "?"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1 and done.stderr.count("\n") == 1
  assert (
    "cannot do model.llm.dropout=[[1, 'attention', 0.5]], only off. Ask with filax chat"
    in done.stderr
  )


def test_an_exported_model_answers_with_the_tokens_of_chat(tmp_path):
  video = clips.write_video(tmp_path / "a.mp4", 40)
  changes = {
    "model.encoder": dict(name="umt", variant="tiny"),
    "model.selector": dict(name="clips", size=4),
    "model.merger": dict(name="tome", tokens=TOKENS),
    "model.projector": dict(name="mlp", newline="none", pool_side=1),
    "infer.selector": dict(name="clips", size=4),
    "infer.sampling.frames": 8,
    "data.resize": "pillow",
  }
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run", **changes)
  session = filax.load(run)
  media = encode.encode_video(session, session.read_video(video))
  prompt, index = session.processor.encode_prompt(templates.question("What is on red?"), [media])
  made = session.generate([prompt], table=media.table[None], visual_index=[index], max_new_tokens=8)
  export_folder.export_checkpoint(
    export_folder.ExportRequest(
      run, tmp_path / "out", "videochat-flash", tokenizer=tokenizers.load_tokenizer(run)
    )
  )
  sys.path.insert(0, str(tmp_path / "out"))
  for name in ("fila_video", "flash_towers", "prompts", "run_torch"):
    sys.modules.pop(name, None)
  tools = importlib.import_module("run_torch")
  sys.path.remove(str(tmp_path / "out"))
  ids, _ = tools.answer_question(
    *tools.load_model(tmp_path / "out"),
    tools.fila_video.TextTokenizer(tmp_path / "out"),
    video,
    "What is on red?",
    max_new_tokens=8,
  )
  assert ids == made.tokens[0] and len(set(ids)) > 1
