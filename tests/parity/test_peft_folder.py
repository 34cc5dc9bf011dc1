# SPDX-License-Identifier: Apache-2.0
"""Folders of PEFT: stock PEFT loads ours and computes the merged logits; theirs come in."""

import json
import pathlib

import jax
import numpy as np
import pytest
import torch
import transformers

from filax.checkpoint import base, parameter_reader, store, streamed
from filax.cli import convert
from filax.convert import ConversionError, torch_files
from filax.models import adapted, components
from filax.testing import tiny_checkpoint

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.slow

LLM = (("llm/layers/mlp", 4), ("^llm/", 2))
EVERYWHERE = (*LLM, ("patch_embedding", 0), ("^(encoder|projector)/", 3))
FRAMES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A base, and exports of it: `hf` and `qwen2`."""
  folder = tmp_path_factory.mktemp("peft")
  tiny_checkpoint.write_checkpoint(folder / "base")
  for name in ("hf", "qwen2"):
    run(f"to --checkpoint {folder}/base --format {name} --out {folder}/base-{name}")
  return folder


def run(arguments):
  assert convert.main(arguments.split()) == 0


def write_adapters(folder, ranks, name):
  """A checkpoint of random adapters over the base."""
  config = tiny_checkpoint.tiny_config()
  config["lora"] = dict(ranks=ranks, alpha=6.0, dropout=0.0, base="same")
  adaptation = adapted.adaptation(components.build_video_lm(config["model"]), config["lora"])
  writer = streamed.ParameterWriter(folder / name)
  for number, (path, x) in enumerate(adaptation.draw_adapters(0).items()):
    if path.endswith("_b"):
      x = 0.2 * jax.random.normal(jax.random.key(number), x.shape)
    writer.leaf(path, x.shape, np.float32, False)[...] = np.asarray(x)
  writer.finish(config, base.refer(store.newest_step(folder / "base")))
  (folder / name / "tokenizer.model").write_bytes((folder / "base/tokenizer.model").read_bytes())
  return folder / name


@pytest.fixture(scope="module")
def everywhere(folder):
  return write_adapters(folder, EVERYWHERE, "everywhere")


@pytest.fixture(scope="module")
def of_llm(folder):
  return write_adapters(folder, LLM, "of_llm")


def load(folder, name):
  kinds = dict(
    hf=transformers.LlavaOnevisionForConditionalGeneration, qwen2=transformers.Qwen2ForCausalLM
  )
  return kinds[name].from_pretrained(folder, dtype=torch.float32).eval()


def logits(model, name):
  tokens = torch.arange(3, 19)[None]
  more = {}
  if name == "hf":
    config = model.config
    size = config.vision_config.image_size
    side = -(-size // config.vision_config.patch_size // 2)
    count = FRAMES * side * side + 1
    tokens = torch.cat([torch.full((1, count), config.video_token_id), tokens], 1)
    torch.manual_seed(0)
    more = dict(pixel_values_videos=torch.randn(1, FRAMES, 3, size, size))
  with torch.no_grad():
    return model(input_ids=tokens, **more).logits.numpy()


@pytest.mark.parametrize("name", ["hf", "qwen2"])
def test_stock_peft_gives_the_merged_logits(name, folder, everywhere, of_llm):
  source = everywhere if name == "hf" else of_llm
  form = dict(hf="peft", qwen2="peft-qwen2")[name]
  run(f"to --checkpoint {source} --format {form} --out {folder}/peft-{name}")
  run(f"to --checkpoint {source} --format {name} --out {folder}/merged-{name}")
  model = load(folder / f"base-{name}", name)
  before = logits(model, name)
  model = peft.PeftModel.from_pretrained(model, folder / f"peft-{name}").eval()
  apart = logits(model, name)
  merged = logits(load(folder / f"merged-{name}", name), name)
  assert abs(before - merged).max() > 1e-2
  np.testing.assert_allclose(apart, merged, atol=1e-5 * abs(merged).max())
  names = torch_files.open_safetensors(folder / f"peft-{name}/adapter_model.safetensors")
  assert len(names) == sum("lora_" in key for key, _ in model.named_parameters())


def test_names_are_those_that_vllm_reads(folder, of_llm):
  run(f"to --checkpoint {of_llm} --format peft-qwen2 --out {folder}/names")
  names = torch_files.open_safetensors(folder / "names/adapter_model.safetensors")
  assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
  document = json.loads((folder / "names/adapter_config.json").read_text())
  assert document["target_modules"] == sorted(
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
  )


def test_they_come_back(folder, everywhere):
  """Out and in again: the same adapters, bit for bit."""
  run(f"to --checkpoint {everywhere} --format peft --out {folder}/out")
  run(f"from --source {folder}/out --base {folder}/base --out {folder}/back")
  before = parameter_reader.ParameterReader(everywhere / "checkpoints/0")
  after = parameter_reader.ParameterReader(folder / "back/checkpoints/0")
  assert sorted(before.adapted) == sorted(after.adapted) and before.adapted
  for path in before.adapted:
    for x, y in zip(before.adapters(path), after.adapters(path), strict=True):
      np.testing.assert_array_equal(x, y, err_msg=path)
  assert (folder / "base/pins/0").exists()


def test_peft_of_another_base_is_refused(folder, of_llm):
  run(f"to --checkpoint {of_llm} --format peft-qwen2 --out {folder}/of_llm_out")
  other = pathlib.Path(
    tiny_checkpoint.write_checkpoint(folder / "other", **{"model.llm.width": 64})
  )
  with pytest.raises((ValueError, ConversionError), match=r"another base|do not fit"):
    run(f"from --source {folder}/of_llm_out --base {other} --out {folder}/refused")
  assert not (folder / "refused").exists()


@pytest.mark.parametrize(
  "content, message",
  [
    ("{", "adapter_config.json is not readable JSON"),
    ("[]", "holds a list, not an object"),
    ('{"peft_type": "IA3"}', "peft_type=IA3. Only LORA"),
    ('{"peft_type": "LORA", "use_dora": true}', "use_dora=True"),
    ('{"peft_type": "LORA"}', "lora_alpha=None, which is not a positive number"),
    (
      '{"peft_type": "LORA", "lora_alpha": "16"}',
      "lora_alpha='16', which is not a positive number",
    ),
    (
      '{"peft_type": "LORA", "init_lora_weights": "pissa_niter_4"}',
      "changes the weights of the base",
    ),
    ('{"peft_type": "LORA", "alora_invocation_tokens": [1]}', "alora_invocation_tokens"),
    (
      '{"peft_type": "LORA", "lora_alpha": 1, "alpha_pattern": {"(": 1}}',
      "not a regular expression",
    ),
    ('{"peft_type": "LORA", "lora_alpha": 1, "alpha_pattern": {"q": 0}}', "alpha_pattern 'q'=0"),
  ],
)
def test_settings_of_peft_that_cannot_be_used(content, message, folder, tmp_path):
  (tmp_path / "adapter_config.json").write_text(content)
  with pytest.raises(ValueError, match=message):
    run(f"from --source {tmp_path} --base {folder}/base --out {tmp_path}/refused")
  assert not (tmp_path / "refused").exists()


def test_parts_that_llava_trained_beside_adapters_are_not_lost(folder, of_llm):
  run(f"to --checkpoint {of_llm} --format peft-qwen2 --out {folder}/of_llava")
  (folder / "of_llava/non_lora_trainables.bin").write_bytes(b"x")
  with pytest.raises(ValueError, match="beside its adapters: parts"):
    run(f"from --source {folder}/of_llava --base {folder}/base --out {folder}/refused")


def test_a_base_has_to_be_named(folder, of_llm):
  run(f"to --checkpoint {of_llm} --format peft-qwen2 --out {folder}/unnamed")
  with pytest.raises(ValueError, match="Give --base the run"):
    run(f"from --source {folder}/unnamed --out {folder}/refused")


def test_patches_are_no_module_of_peft(folder):
  source = write_adapters(folder, (("patch_embedding", 2),), "patches")
  with pytest.raises(ConversionError, match="no module of their own"):
    run(f"to --checkpoint {source} --format peft --out {folder}/refused")


def test_a_whole_model_has_no_adapters(folder):
  with pytest.raises(ValueError, match="has no adapters"):
    run(f"to --checkpoint {folder}/base --format peft --out {folder}/refused")


STRANGERS = {  # Adapters as people train them, beside q_proj and up_proj of all layers.
  "one_layer": dict(layers_to_transform=[1]),
  "patterns": dict(
    alpha_pattern={r"layers\.(0|1)\..*q_proj": 3, "model.layers.1.mlp.up_proj": 5, "up_proj": 7}
  ),
  "rslora": dict(use_rslora=True, lora_alpha=5),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_adapters_of_stock_peft_count_as_there(name, folder):
  """In, and out again: PEFT's logits with its own folder and with ours."""
  settings = dict(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]) | STRANGERS[name]
  model = load(folder / "base-qwen2", "qwen2")
  model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
  torch.manual_seed(1)
  for key, parameter in model.named_parameters():
    if "lora_" in key:
      torch.nn.init.normal_(parameter, std=0.3)
  model.save_pretrained(folder / f"theirs-{name}")
  expected = logits(model, "qwen2")
  run(f"from --source {folder}/theirs-{name} --base {folder}/base --out {folder}/in-{name}")
  run(f"to --checkpoint {folder}/in-{name} --format qwen2 --out {folder}/whole-{name}")
  merged = logits(load(folder / f"whole-{name}", "qwen2"), "qwen2")
  np.testing.assert_allclose(merged, expected, atol=1e-5 * abs(expected).max())
  run(f"to --checkpoint {folder}/in-{name} --format peft-qwen2 --out {folder}/ours-{name}")
  base_model = load(folder / "base-qwen2", "qwen2")
  again = peft.PeftModel.from_pretrained(base_model, folder / f"ours-{name}").eval()
  np.testing.assert_allclose(logits(again, "qwen2"), expected, atol=1e-5 * abs(expected).max())


def test_what_was_trained_in_full_is_not_lost(folder, of_llm):
  source = folder / "with_norm"
  writer = streamed.ParameterWriter(source)
  reader = parameter_reader.ParameterReader(of_llm / "checkpoints/0")
  norm = "llm/norm/scale"
  for path, leaf in {**reader.stored, norm: reader.leaves[norm]}.items():
    x = reader.whole(norm) if path == norm else reader._read_stored(path)
    writer.leaf(path, leaf.shape, leaf.dtype, False)[...] = x
  config = streamed.read_json(of_llm / "checkpoints/0", "config")
  writer.finish(config, base.refer(store.newest_step(folder / "base")))
  with pytest.raises(ConversionError, match=r"beside its adapters(.|\n)*llm/norm/scale"):
    run(f"to --checkpoint {source} --format peft --out {folder}/refused")


def test_options_that_adapters_do_not_read_are_refused(folder, of_llm):
  with pytest.raises(ValueError, match="takes no --dtype and no --verify"):
    run(f"to --checkpoint {of_llm} --format peft --dtype bfloat16 --verify --out {folder}/refused")
  run(f"to --checkpoint {of_llm} --format peft-qwen2 --out {folder}/for_options")
  with pytest.raises(ValueError, match="take no --dtype"):
    run(f"from --source {folder}/for_options --dtype float32 --out {folder}/refused")
  with pytest.raises(ValueError, match="takes no --base"):
    run(f"from --source {folder}/base-qwen2 --base {folder}/base --out {folder}/refused")
