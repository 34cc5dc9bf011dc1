# SPDX-License-Identifier: Apache-2.0
"""Parts on their own: Qwen2, SigLIP in three forms, projector files, and models put together."""

import json

import hf_llava
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch
import transformers

from data_pipelines.text import tokenizers
from filax.checkpoint import store, streamed
from filax.checkpoint.tuples import as_tuples
from filax.configs import fila_stage1, fila_stage4
from filax.convert import export_folder, import_folder, import_inputs
from filax.models import components
from filax.testing import tiny_tokenizer

pytestmark = pytest.mark.slow


def qwen2(folder, tied=False, **options):
  config = transformers.Qwen2Config(
    **dict(
      vocab_size=160,
      hidden_size=64,
      intermediate_size=96,
      num_hidden_layers=3,
      num_attention_heads=4,
      num_key_value_heads=2,
      max_position_embeddings=512,
      rope_parameters=dict(rope_type="default", rope_theta=1e6),
      tie_word_embeddings=tied,
      bos_token_id=None,
      eos_token_id=None,
    )
    | options
  )
  model = hf_llava.random_(transformers.Qwen2ForCausalLM(config)).eval()
  model.save_pretrained(folder)
  return model


def converted(out, **options):
  report = import_folder.import_checkpoint(import_inputs.ImportRequest(out=out, **options))
  config = as_tuples(streamed.read_json(streamed.step_folder(out), "config"))
  params, missing, extra = store.restore_params(out)
  assert (missing, extra) == ([], [])
  return config["model"], params, report


@pytest.mark.parametrize(
  "options",
  [
    dict(),
    dict(tied=True),
    dict(num_attention_heads=6, num_key_value_heads=1, hidden_size=96),
    dict(vocab_size=513),
    dict(max_shards=True),
  ],
)
def test_qwen2_alone(options, tmp_path):
  shards = options.pop("max_shards", False)
  theirs = qwen2(tmp_path / "hub", **options)
  if shards:
    theirs.save_pretrained(tmp_path / "hub", max_shard_size="50KB")
    (tmp_path / "hub" / "model.safetensors").unlink()
  model, params, report = converted(tmp_path / "run", source=tmp_path / "hub")
  assert list(params) == ["llm"] and report["counts"]["left_over"] == 0
  llm = components.build("llm", model["llm"])
  tokens = np.random.default_rng(0).integers(0, llm.vocab, (2, 17))

  def forward(m, tokens):
    positions = jnp.broadcast_to(jnp.arange(17), tokens.shape)
    return m.logits(m(m.embed(tokens), positions)[0])

  ours = llm.apply({"params": params["llm"]}, jnp.asarray(tokens), method=forward)
  with torch.no_grad():
    expected = theirs(torch.tensor(tokens)).logits.numpy()
  np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_qwen2_there_and_back(tied, kind, tmp_path):
  theirs = qwen2(tmp_path / "hub", tied).to(getattr(torch, kind))
  theirs.save_pretrained(tmp_path / "hub")
  converted(tmp_path / "run", source=tmp_path / "hub")
  export_folder.export_checkpoint(
    export_folder.ExportRequest(tmp_path / "run", tmp_path / "out", "qwen2")
  )
  back, info = transformers.Qwen2ForCausalLM.from_pretrained(
    tmp_path / "out", output_loading_info=True
  )
  assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
  assert ("lm_head.weight" in load_file(next((tmp_path / "out").glob("*.safetensors")))) != tied
  for name, x in theirs.state_dict().items():
    assert torch.equal(x, back.state_dict()[name]), name


def siglip(folder, form):
  """A released tower (one block more than is read): dual-encoder file, or vision only."""
  vision = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=70,
    patch_size=14,
  )
  if form == "dual":
    text = dict(
      hidden_size=32,
      intermediate_size=48,
      num_hidden_layers=2,
      num_attention_heads=4,
      vocab_size=64,
      max_position_embeddings=16,
      bos_token_id=1,
      eos_token_id=2,
      pad_token_id=1,
    )
    model = transformers.SiglipModel(
      transformers.SiglipConfig(vision_config=vision, text_config=text)
    )
    tower = model.vision_model
  else:
    model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**vision))
    tower = model
  hf_llava.random_(model).eval()
  folder.mkdir()
  names = dict(model.state_dict())
  if form == "old":  # Before transformers 5.6.
    names = {f"vision_model.{k}": v for k, v in names.items()}
  save_file(
    {k: v.contiguous() for k, v in names.items()}, folder / "model.safetensors", {"format": "pt"}
  )
  model.config.save_pretrained(folder)
  return tower


@pytest.mark.parametrize("form", ["dual", "old", "new"])
def test_siglip_alone(form, tmp_path):
  tower = siglip(tmp_path / "hub", form)
  of_text_tower = tokenizers.load_tokenizer(tiny_tokenizer.write_qwen_tokenizer(tmp_path))
  model, params, report = converted(
    tmp_path / "run", source=tmp_path / "hub", tokenizer=of_text_tower
  )
  assert not (tmp_path / "run" / "tokenizer.json").exists()
  reasons = {row["reason"] for row in report["unused"]}
  assert {"the block after the feature layer", "the pooling head"} <= reasons
  assert ("the text tower" in reasons) == (form == "dual")
  encoder = components.build("encoder", model["encoder"])
  assert encoder.depth == 3 and encoder.grid == (5, 5)
  frames = np.random.default_rng(0).integers(0, 256, (2, 1, 70, 70, 3)).astype(np.uint8)
  ours = encoder.apply({"params": params["encoder"]}, jnp.asarray(frames))[:, 0]
  with torch.no_grad():
    states = tower(hf_llava.pixels(frames[:, 0])[0], output_hidden_states=True).hidden_states
  np.testing.assert_allclose(ours, states[3].numpy(), atol=1e-4, rtol=1e-4)


def stage(config, **changes):
  c = config.get_config("debug")
  with c.unlocked():
    c.model.encoder = dict(
      name="siglip", size=70, patch=14, width=32, depth=3, heads=4, mlp=48, remat="none"
    )
    c.model.llm = dict(
      name="qwen2",
      width=64,
      depth=3,
      heads=4,
      kv_heads=2,
      head_dim=16,
      mlp=96,
      vocab=160,
      positions=512,
      remat="none",
    )
  return c.to_dict()


def test_a_fresh_fila_from_a_tower_and_a_language_model(tmp_path):
  siglip(tmp_path / "tower", "dual")
  qwen2(tmp_path / "llm")
  config = stage(fila_stage4)
  _, params, report = converted(
    tmp_path / "run", config=config, parts={"encoder": tmp_path / "tower", "llm": tmp_path / "llm"}
  )
  fresh = ["merger/weight", "projector/image_newline"] + [
    f"projector/linear_{i}/{x}" for i in (1, 2) for x in ("bias", "kernel")
  ]
  assert report["drawn_anew"] == sorted(fresh)
  assert report["counts"]["drawn_anew"] == len(fresh)
  np.testing.assert_array_equal(params["merger"]["weight"], np.float32(1 / 3))
  assert params["merger"]["weight"].shape == (3, 25, 32)
  whole = components.build_video_lm(as_tuples(config["model"]))
  example = jax.tree.map(jnp.asarray, whole.example())
  drawn = jax.jit(whole.init)(jax.random.key(config["seed"]), example)["params"]
  assert jax.tree.structure(drawn) == jax.tree.structure(params)
  like = jax.eval_shape(lambda: drawn)
  assert store.restore_params(tmp_path / "run", like)[1:] == ([], [])  # As training starts.
  np.testing.assert_array_equal(
    params["projector"]["linear_1"]["kernel"], drawn["projector"]["linear_1"]["kernel"]
  )
  state = load_file(tmp_path / "llm" / "model.safetensors")
  np.testing.assert_array_equal(
    params["llm"]["layers"]["mlp"]["up_proj"]["kernel"][1],
    state["model.layers.1.mlp.up_proj.weight"].numpy().T,
  )


@pytest.mark.parametrize("prefix", ["model.", ""])
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_a_projector_of_stage_1(kind, prefix, tmp_path):
  siglip(tmp_path / "tower", "new")
  qwen2(tmp_path / "llm")
  state = {
    f"{prefix}mm_projector.{n}.{name}": torch.randn(shape)
    for n, width in ((0, 32), (2, 64))
    for name, shape in (("weight", (64, width)), ("bias", 64))
  }
  file = tmp_path / f"mm_projector.{kind}"
  torch.save(state, file) if kind == "bin" else save_file(state, file)
  _, params, report = converted(
    tmp_path / "run",
    config=stage(fila_stage1),
    parts={"encoder": tmp_path / "tower", "llm": tmp_path / "llm", "projector": file},
  )
  assert report["drawn_anew"] == ["merger/weight"]
  np.testing.assert_array_equal(
    params["projector"]["linear_2"]["kernel"], state[f"{prefix}mm_projector.2.weight"].numpy().T
  )


def test_the_parts_of_another_model_replace_those_of_a_whole_one(tmp_path):
  whole = hf_llava.write(tmp_path / "hub", hf_llava.tiny(), "A")
  other = hf_llava.tiny(seed=5)
  hf_llava.write(tmp_path / "other", other, "C", legacy=False)
  _, params, _ = converted(tmp_path / "run", source=whole, parts={"projector": tmp_path / "other"})
  np.testing.assert_array_equal(
    params["projector"]["linear_1"]["kernel"],
    other.model.multi_modal_projector.linear_1.weight.detach().numpy().T,
  )


def test_what_config_json_does_not_say_is_asked_for_by_flag(tmp_path):
  qwen2(tmp_path / "hub")
  file = tmp_path / "hub" / "config.json"
  config = json.loads(file.read_text())
  del config["rope_parameters"], config["num_key_value_heads"]
  file.write_text(json.dumps(config))
  with pytest.raises(ValueError, match=r"--set llm.kv_heads=... --set llm.theta=..."):
    converted(tmp_path / "run", source=tmp_path / "hub")
  model, _, _ = converted(
    tmp_path / "run", source=tmp_path / "hub", sets={"llm.kv_heads": 2, "llm.theta": 1e6}
  )
  assert model["llm"]["theta"] == 1e6


def test_a_config_of_another_size_is_refused(tmp_path):
  qwen2(tmp_path / "hub", intermediate_size=128)
  with pytest.raises(ValueError, match="mlp=96 there and 128 in the files"):
    converted(tmp_path / "run", config=stage(fila_stage1), parts={"llm": tmp_path / "hub"})
