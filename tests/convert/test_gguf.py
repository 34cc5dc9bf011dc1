# SPDX-License-Identifier: Apache-2.0
"""GGUF files: invented ones of every kind, and a real SmolLM2 with its recorded answers."""

import json
import os
import pathlib
import subprocess
import sys

from compile_flags import QUICK
import jax.numpy as jnp
import numpy as np
import packages
import pytest

from data_pipelines.text import tokenizers
from filax.checkpoint import store, streamed
from filax.checkpoint.tuples import as_tuples
from filax.cli import convert, main
from filax.convert import ConversionError
from filax.convert.gguf import config, tensors
from filax.convert.gguf import tokenizer as gguf_tokenizer
from filax.models import components
from filax.ops import rope

gguf = pytest.importorskip("gguf")

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "smollm2"
WIDTH = 64
HEADS = 4
KV_HEADS = 2
DEPTH = 2
WORDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "h", "i", "\u0120", "hi", "1", "2"]
KINDS = [3, 3, 3, 1, 1, 1, 1, 1, 1]


def hf_tensors(seed=0):
  """Random tensors under HF's names."""
  rng = np.random.default_rng(seed)
  shapes = {
    "model.embed_tokens.weight": (len(WORDS), WIDTH),
    "model.norm.weight": (WIDTH,),
  }
  for layer in range(DEPTH):
    name = f"model.layers.{layer}"
    shapes[f"{name}.input_layernorm.weight"] = (WIDTH,)
    shapes[f"{name}.post_attention_layernorm.weight"] = (WIDTH,)
    shapes[f"{name}.self_attn.q_proj.weight"] = (WIDTH, WIDTH)
    shapes[f"{name}.self_attn.k_proj.weight"] = (WIDTH // 2, WIDTH)
    shapes[f"{name}.self_attn.v_proj.weight"] = (WIDTH // 2, WIDTH)
    shapes[f"{name}.self_attn.o_proj.weight"] = (WIDTH, WIDTH)
    shapes[f"{name}.mlp.gate_proj.weight"] = (96, WIDTH)
    shapes[f"{name}.mlp.up_proj.weight"] = (96, WIDTH)
    shapes[f"{name}.mlp.down_proj.weight"] = (WIDTH, 96)
  return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def gguf_name(name):
  """llama.cpp's name of a tensor of HF."""
  parts = dict(tensors._TOP) | {f"blk.{{}}.{a}": b for a, b in tensors._IN_LAYER.items()}
  for theirs, ours in parts.items():
    if ours == name:
      return theirs
  _, _, layer, rest = name.split(".", 3)
  module = rest.removesuffix(".weight")
  (short,) = [a for a, b in tensors._IN_LAYER.items() if b == module]
  return f"blk.{layer}.{short}.weight"


def interleaved(weight, heads):
  """llama.cpp's order of the rows of queries and keys of Llama."""
  halves = weight.reshape(heads, 2, -1, weight.shape[1])
  return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_file(path, kind="F32", architecture="llama", extra=(), **fields):
  """A GGUF file of a tiny model; returns its tensors under HF's names."""
  weights = hf_tensors()
  writer = gguf.GGUFWriter(path, architecture)
  for name, value in dict(
    embedding_length=WIDTH,
    block_count=DEPTH,
    feed_forward_length=96,
    context_length=512,
  ).items():
    writer.add_uint32(f"{architecture}.{name}", value)
  writer.add_uint32(f"{architecture}.attention.head_count", HEADS)
  writer.add_uint32(f"{architecture}.attention.head_count_kv", KV_HEADS)
  writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
  writer.add_float32(f"{architecture}.rope.freq_base", 1e4)
  writer.add_string("tokenizer.ggml.model", fields.get("model", "gpt2"))
  writer.add_string("tokenizer.ggml.pre", fields.get("pre", "smollm"))
  writer.add_array("tokenizer.ggml.tokens", WORDS)
  writer.add_array("tokenizer.ggml.token_type", KINDS)
  writer.add_array("tokenizer.ggml.merges", ["h i"])
  for key, value in fields.get("strings", {}).items():
    writer.add_string(key, value)
  quantised = getattr(gguf.GGMLQuantizationType, kind)
  for name, weight in [*weights.items(), *extra]:
    target = name if name in dict(extra) else gguf_name(name)
    if architecture == "llama" and ".q_proj." in name:
      weight = interleaved(weight, HEADS)
    if architecture == "llama" and ".k_proj." in name:
      weight = interleaved(weight, KV_HEADS)
    if weight.ndim == 1 or kind == "F32":
      writer.add_tensor(target, weight)
    else:
      writer.add_tensor(target, gguf.quants.quantize(weight, quantised), raw_dtype=quantised)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return weights


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_1"])
def test_tensors_are_those_of_hf_but_for_the_quantisation(kind, tmp_path):
  weights = write_file(tmp_path / "x.gguf", kind)
  read = tensors.open_gguf(tmp_path / "x.gguf")
  assert read.keys() == weights.keys()
  quantised = getattr(gguf.GGMLQuantizationType, kind)
  for name, weight in weights.items():
    expected = weight
    if weight.ndim > 1:
      expected = gguf.quants.dequantize(gguf.quants.quantize(weight, quantised), quantised)
    np.testing.assert_array_equal(read[name].read_all(), expected.reshape(weight.shape))
    np.testing.assert_array_equal(read[name][1:3], expected.reshape(weight.shape)[1:3])


def test_a_file_of_qwen2_keeps_the_order_of_its_rows(tmp_path):
  weights = write_file(tmp_path / "x.gguf", architecture="qwen2", pre="qwen2")
  read = tensors.open_gguf(tmp_path / "x.gguf")
  name = "model.layers.1.self_attn.q_proj.weight"
  np.testing.assert_array_equal(read[name].read_all(), weights[name])


def test_the_config_is_that_of_hf(tmp_path):
  write_file(tmp_path / "x.gguf")
  read = config.gguf_config(tmp_path / "x.gguf")
  assert read["model_type"] == "llama" and read["rms_norm_eps"] == 1e-5
  assert read["head_dim"] == 16 and read["tie_word_embeddings"] is True
  assert read["vocab_size"] == len(WORDS) and "rope_scaling" not in read


def test_the_factors_of_llama_3_are_recognised(tmp_path):
  plain, _ = rope.frequencies(16, 1e4)
  factors = plain / rope.llama3_frequencies(16, 1e4, 8.0, 1.0, 4.0, 8192)
  write_file(tmp_path / "x.gguf", extra=[(tensors.ROPE_FACTORS, factors.astype(np.float32))])
  scaling = config.gguf_config(tmp_path / "x.gguf")["rope_scaling"]
  assert scaling["rope_type"] == "llama3" and scaling["factor"] == 8.0


def test_the_tokenizer_splits_digits_and_keeps_controls_apart(tmp_path):
  write_file(tmp_path / "x.gguf")
  tokenizer = convert._load_tokenizer(None, [tmp_path / "x.gguf"])
  assert tokenizer.encode("hi 12") == [6, 5, 7, 8]
  assert 2 not in tokenizer.encode("<|im_end|>")
  assert tokenizer.special("<|im_end|>") == 2
  assert tokenizer.decode([6, 5, 7, 8]) == "hi 12"


def test_the_chat_template_comes_from_the_file(tmp_path):
  template = "{% for message in messages %}<|im_start|>{{ message.content }}{% endfor %}"
  write_file(tmp_path / "x.gguf", strings={"tokenizer.chat_template": template})
  assert gguf_tokenizer.chat_settings(tmp_path / "x.gguf") == dict(chat_template=template)
  tokenizer = convert._load_tokenizer(None, [tmp_path / "x.gguf"])
  assert tokenizer.chat.source == template


@pytest.mark.parametrize(
  "options, sentence",
  [
    (dict(architecture="gptneox"), "architecture 'gptneox'"),
    (dict(strings={"llama.rope.scaling.type": "linear"}), "'linear', which is not implemented"),
    (dict(extra=[(tensors.ROPE_FACTORS, np.full(8, 3.0, np.float32))]), "not those of Llama 3"),
  ],
)
def test_a_model_that_is_not_implemented_is_refused(options, sentence, tmp_path):
  write_file(tmp_path / "x.gguf", **options)
  with pytest.raises(ValueError, match=sentence):
    config.gguf_config(tmp_path / "x.gguf")


@pytest.mark.parametrize(
  "options, sentence",
  [(dict(model="llama"), "kind 'llama'"), (dict(pre="tekken"), "the rule 'tekken'")],
)
def test_a_tokenizer_that_is_not_implemented_names_the_option(options, sentence, tmp_path):
  write_file(tmp_path / "x.gguf", **options)
  with pytest.raises(ValueError, match=f"{sentence}.*--tokenizer"):
    gguf_tokenizer.tokenizer_json(tmp_path / "x.gguf")


def test_an_unknown_tensor_is_refused_by_name(tmp_path):
  write_file(tmp_path / "x.gguf", extra=[("blk.0.ssm_a", np.ones(4, np.float32))])
  with pytest.raises(ConversionError, match=r"blk\.0\.ssm_a"):
    tensors.open_gguf(tmp_path / "x.gguf")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.97])
def test_a_truncated_file_is_called_cut_short(share, tmp_path):
  write_file(tmp_path / "x.gguf")
  content = (tmp_path / "x.gguf").read_bytes()
  (tmp_path / "x.gguf").write_bytes(content[: int(len(content) * share)])
  with pytest.raises(ValueError, match="cut short"):
    tensors.open_gguf(tmp_path / "x.gguf")


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
  """(what `filax chat` answers from the real file, the folder of its conversion)."""
  source = packages.package("smollm2.gguf")
  cache = tmp_path_factory.mktemp("cache")
  words = ["chat", "--checkpoint", str(source), "--max-new-tokens", "8"]
  # One device, as on a laptop: eight pretended ones would each hold and convert all weights.
  done = subprocess.run(
    [sys.executable, "-m", "filax", *words, "--question", "What is the capital of France?"],
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | dict(XLA_FLAGS=QUICK, FILAX_CACHE=str(cache)),
  )
  assert done.returncode == 0, done.stderr
  (entry,) = [path for path in (cache / "converted").iterdir() if path.suffix != ".lock"]
  return done.stdout, entry


@pytest.mark.slow
def test_the_real_smollm2_knows_the_capital_of_france(smollm2):
  assert "Paris" in smollm2[0]


def stored(out):
  """(llm, its parameters, tokenizer) of a converted GGUF file."""
  settings = as_tuples(streamed.read_json(streamed.step_folder(out), "config"))
  llm = components.build("llm", settings["model"]["llm"])
  params, missing, extra = store.restore_params(out)
  assert (missing, extra) == ([], [])
  return llm, params["llm"], tokenizers.load_tokenizer(out)


@pytest.mark.slow
def test_the_command_converts_a_file(tmp_path):
  write_file(tmp_path / "x.gguf")
  words = ["convert", "from", "--source", str(tmp_path / "x.gguf")]
  assert main.main([*words, "--out", str(tmp_path / "run")]) == 0
  llm, params, tokenizer = stored(tmp_path / "run")
  assert llm.depth == DEPTH and params["embed_tokens"]["embedding"].shape[1] == WIDTH
  assert tokenizer.encode("hi 12") == [6, 5, 7, 8]


@pytest.mark.slow
def test_the_real_smollm2_has_its_recorded_logits(smollm2):
  llm, params, tokenizer = stored(smollm2[1])
  golden = json.loads((GOLDEN / "golden.json").read_text())
  ids = tokenizer.encode(golden["text"])
  assert ids == golden["ids"]

  def forward(model, tokens):
    positions = jnp.arange(tokens.shape[1])[None]
    return model.logits(model(model.embed(tokens), positions)[0])

  logits = np.asarray(llm.apply({"params": params}, jnp.asarray([ids]), method=forward))[0]
  assert logits.argmax(-1).tolist() == golden["argmax"]
  np.testing.assert_allclose(logits[-1], np.load(GOLDEN / "last_logits.npy"), atol=1e-3)
