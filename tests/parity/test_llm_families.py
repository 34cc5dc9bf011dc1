# SPDX-License-Identifier: Apache-2.0
"""Qwen3 and Llama against transformers on random tiny weights: 1e-4 on logits, float32.

The weights travel by the converter, so names and layouts are tested with the numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from filax.checkpoint import store, streamed
from filax.checkpoint.tuples import as_tuples
from filax.cli import main
from filax.convert import llm_config_in, llm_config_out
from filax.infer import generate
from filax.models import components
from filax.ops import rope

pytestmark = pytest.mark.slow

SIZES = dict(
  vocab_size=515,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=3,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=16,
  max_position_embeddings=512,
  pad_token_id=0,
  bos_token_id=None,
  eos_token_id=None,
)
STRETCH = dict(
  rope_type="llama3",
  rope_theta=1e4,
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=64,
)
CASES = {
  "qwen3": (transformers.Qwen3Config, dict(tie_word_embeddings=False)),
  "qwen3 tied": (transformers.Qwen3Config, dict(tie_word_embeddings=True)),
  "llama": (transformers.LlamaConfig, dict(tie_word_embeddings=False, rms_norm_eps=1e-5)),
  "llama 3.1": (transformers.LlamaConfig, dict(rope_parameters=STRETCH)),
  "smollm2": (
    transformers.LlamaConfig,
    dict(tie_word_embeddings=True, hidden_size=48, num_attention_heads=6, head_dim=8),
  ),
}


def write_random_folder(name, folder):
  """A folder of transformers with random weights, and its model."""
  config_class, options = CASES[name]
  config = config_class(**(SIZES | options), attn_implementation="eager")
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
  with torch.no_grad():
    for parameter, weight in model.named_parameters():
      weight.normal_(1.0 if "norm" in parameter else 0.0, 0.2)
  model.save_pretrained(folder)
  return model


def converted_llm(folder):
  """(model, parameters) of a converted llm."""
  config = as_tuples(streamed.read_json(streamed.step_folder(folder), "config"))
  llm = components.build("llm", config["model"]["llm"])
  params, _, _ = store.restore_params(folder)
  return llm, params["llm"]


def logits_of(llm, params, tokens):
  def forward(model, tokens):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return model.logits(model(model.embed(tokens), positions)[0])

  return llm.apply({"params": params}, jnp.asarray(tokens), method=forward)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_transformers_and_the_export_holds_the_same_weights(name, tmp_path):
  theirs = write_random_folder(name, tmp_path / "hub")
  source = str(tmp_path / "hub")
  run = tmp_path / "run"
  assert main.main(["convert", "from", "--source", source, "--out", str(run)]) == 0
  llm, params = converted_llm(run)
  tokens = np.random.default_rng(1).integers(0, llm.vocab, (2, 90))
  with torch.no_grad():
    expected = theirs(torch.tensor(tokens)).logits.numpy()
  np.testing.assert_allclose(logits_of(llm, params, tokens), expected, atol=1e-4, rtol=1e-4)
  out = tmp_path / "back"
  kind = name.split()[0].replace("smollm2", "llama")
  assert (
    main.main(["convert", "to", "--checkpoint", str(run), "--format", kind, "--out", str(out)]) == 0
  )
  back, info = transformers.AutoModelForCausalLM.from_pretrained(
    out, attn_implementation="eager", output_loading_info=True
  )
  assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
  with torch.no_grad():
    again = back(torch.tensor(tokens)).logits.numpy()
  np.testing.assert_array_equal(again, expected)


@pytest.mark.long
def test_the_converter_verifies_a_llama(tmp_path):
  write_random_folder("llama 3.1", tmp_path / "hub")
  arguments = ["convert", "from", "--source", str(tmp_path / "hub"), "--out", str(tmp_path / "run")]
  assert main.main([*arguments, "--verify"]) == 0


@pytest.mark.parametrize("name", ["qwen3", "llama 3.1"])
def test_greedy_answers_equal_transformers(name, tmp_path):
  theirs = write_random_folder(name, tmp_path / "hub")
  arguments = ["convert", "from", "--source", str(tmp_path / "hub"), "--out", str(tmp_path / "run")]
  assert main.main(arguments) == 0
  llm, params = converted_llm(tmp_path / "run")
  model = components.build_video_lm(
    dict(
      encoder=dict(name="siglip", variant="tiny"),
      selector=dict(name="uniform", size=1),
      merger=dict(name="mean"),
      projector=dict(name="mlp"),
      llm=dict(name="qwen2", variant="tiny"),
    )
  ).clone(llm=llm)
  prompt = np.random.default_rng(2).integers(0, llm.vocab, 21).tolist()
  answer = generate.generate(model, {"llm": params}, [prompt], max_new_tokens=12)
  with torch.no_grad():
    expected = theirs.generate(
      torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0
    )
  assert answer.tokens[0] == expected[0, 21:].tolist()


@pytest.mark.parametrize("dim, theta", [(64, 5e5), (128, 5e5), (16, 1e4)])
def test_the_stretched_frequencies_are_those_of_transformers(dim, theta):
  settings = STRETCH | dict(rope_theta=theta, original_max_position_embeddings=8192)
  config = transformers.LlamaConfig(
    **(SIZES | dict(head_dim=dim, max_position_embeddings=131_072)), rope_parameters=settings
  )
  expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
  ours = rope.llama3_frequencies(dim, theta, 8.0, 1.0, 4.0, 8192)
  np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
  "name, variant, parameters",
  [
    ("qwen3", "0.6B", 596_049_920),
    ("qwen3", "1.7B", 1_720_574_976),
    ("qwen3", "4B", 4_022_468_096),
    ("qwen3", "8B", 8_190_735_360),
    ("llama", "SmolLM2-135M", 134_515_008),
    ("llama", "SmolLM2-360M", 361_821_120),
    ("llama", "SmolLM2-1.7B", 1_711_376_384),
    ("llama", "3-8B", 8_030_261_248),
    ("llama", "3.1-8B", 8_030_261_248),
    ("llama", "3.2-1B", 1_235_814_400),
    ("llama", "3.2-3B", 3_212_749_824),
    ("llama", "vicuna-7B", 6_738_415_616),
    ("llama", "vicuna-13B", 13_015_864_320),
  ],
)
def test_every_size_has_its_published_number_of_parameters(name, variant, parameters):
  llm = components.build("llm", dict(name=name, variant=variant))
  x = jax.ShapeDtypeStruct((1, 4, llm.width), jnp.float32)
  positions = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  shapes = jax.eval_shape(llm.init, jax.random.key(0), x, positions)["params"]
  padding = (llm.vocab_rows - llm.vocab) * llm.width * (1 if llm.tied else 2)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) - padding == parameters


@pytest.mark.parametrize(
  "model_type, setting, sentence",
  [
    ("llama", dict(mlp_bias=True), "mlp_bias is True"),
    ("llama", dict(attention_bias=True), "attention_bias is True"),
    ("qwen3", dict(attention_bias=True), "attention_bias is True"),
    ("llama", dict(hidden_act="gelu"), "hidden_act is 'gelu'"),
    ("llama", dict(rope_scaling=dict(type="linear", factor=4.0)), "'linear' is not implemented"),
    ("qwen3", dict(rope_scaling=STRETCH), "'llama3' is not implemented"),
    (
      "llama",
      dict(rope_scaling=STRETCH | dict(low_freq_factor=None)),
      "low_freq_factor=None, but it must be a number above 0",
    ),
  ],
)
def test_a_setting_that_is_not_implemented_is_refused_by_name(model_type, setting, sentence):
  with pytest.raises(ValueError, match=sentence):
    llm_config_in.read_llm(dict(model_type=model_type) | setting)


def test_the_written_stretch_is_read_again():
  llm = components.build("llm", dict(name="llama", variant="3.1-8B"))
  written = llm_config_out.llm_config("llama", llm, "bfloat16", None)
  assert llm_config_in.read_llm(written)["stretch"] == (8.0, 1.0, 4.0, 8192)
