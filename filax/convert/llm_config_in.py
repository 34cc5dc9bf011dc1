# SPDX-License-Identifier: Apache-2.0
"""Reads the config.json of a language model into config.model.llm.

transformers 4 or 5 has written it. Only settings that change the numbers are read. A setting that
the file lacks has the value that transformers gives it.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from filax.convert import rope_config

_FIELDS = dict(
  width="hidden_size",
  depth="num_hidden_layers",
  heads="num_attention_heads",
  kv_heads="num_key_value_heads",
  head_dim="head_dim",
  mlp="intermediate_size",
  vocab="vocab_size",
  tied="tie_word_embeddings",
)


@dataclasses.dataclass(frozen=True)
class _LlmFamily:
  """The defaults of a model_type, and settings that must have one value."""

  positions: int
  rope_types: tuple[str, ...]
  fixed: Mapping[str, Any]  # Setting -> the only value that is implemented.
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_NO_BIAS = dict(hidden_act="silu", attention_bias=False, mlp_bias=False)
FAMILIES = {
  "qwen2": _LlmFamily(
    32_768, ("default", "yarn"), dict(hidden_act="silu", use_sliding_window=False)
  ),
  "qwen3": _LlmFamily(
    32_768, ("default", "yarn"), dict(use_sliding_window=False) | _NO_BIAS, dict(head_dim=128)
  ),
  "llama": _LlmFamily(2048, ("default", "yarn", "llama3"), _NO_BIAS, dict(theta=1e4)),
}


def read_llm(config: Mapping[str, Any]) -> dict[str, Any]:
  """The llm role from a config of Qwen2, Qwen3 or Llama.

  A model_type that is none of them, such as "llava_qwen", is Qwen2. `tied` is there only if the
  config says it. Raises ValueError for a setting that is not implemented.
  """
  name = config.get("model_type", "qwen2")
  if name not in FAMILIES:
    name = "qwen2"
  family = FAMILIES[name]
  _check_fixed(config, family)
  rope = rope_config.read_rope(config, family.rope_types)
  sizes = dict(family.defaults) | renamed(config, _FIELDS)
  if name == "llama" and "kv_heads" not in sizes and "heads" in sizes:  # As in Llama 2.
    sizes["kv_heads"] = sizes["heads"]
  if "head_dim" not in sizes and {"width", "heads"} <= sizes.keys():
    sizes["head_dim"] = sizes["width"] // sizes["heads"]
  theta = rope.get("rope_theta", config.get("rope_theta"))
  if theta is not None:
    sizes["theta"] = float(theta)
  positions = config.get("max_position_embeddings", family.positions)
  kind = rope_config.rope_type(rope)
  if kind == "llama3":
    sizes["stretch"] = rope_config.llama3_settings(rope)
  yarn = rope_config.yarn_settings(rope, positions) if kind == "yarn" else None
  return dict(
    name=name,
    eps=config.get("rms_norm_eps", 1e-6),
    positions=positions,
    yarn=yarn,
    **sizes,
  )


def _check_fixed(config: Mapping[str, Any], family: _LlmFamily) -> None:
  """Raises ValueError for a setting with another value than the only one."""
  for key, value in family.fixed.items():
    if config.get(key, value) != value:
      raise ValueError(f"{key} is {config[key]!r}, but the llm here has {value!r}.")


def renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
  """Values of a config.json under our names.

  `names`: ours -> theirs.
  """
  values = {}
  for ours, theirs in names.items():
    if config.get(theirs) is not None:
      values[ours] = config[theirs]
  return values
