# SPDX-License-Identifier: Apache-2.0
"""The config.json of a language model, in the terms of transformers 4 and 5."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from data_pipelines.text.chat_template import ChatTemplate
from filax.convert.rope_config import LLAMA3_KEYS
from filax.models import components
from filax.ops import rope


@dataclasses.dataclass(frozen=True)
class ExportVocabulary:
  """The ids of a tokenizer needed for an export."""

  tokens: int  # Ids from this one on are never generated.
  pad: int
  stop: tuple[int, ...]
  controls: Mapping[str, int]
  start: int | None = None  # The id at the start of a text, for configs that need it.
  chat: ChatTemplate | None = None  # The tokenizer's own chat template.

  @property
  def pad_token(self) -> int | None:
    """The id of the padding token; None without one."""
    return self.pad if self.pad in self.controls.values() else None

  @property
  def start_token(self) -> int | None:
    """The id at the start of a text.

    Without one, as in Qwen, it is that of padding.
    """
    return self.pad_token if self.start is None else self.start


def llm_config(
  name: str,
  llm: Any,
  dtype: str,
  vocabulary: ExportVocabulary | None,
) -> dict[str, Any]:
  """A config of the family `name`: qwen2, qwen3 or llama.

  It has rope_theta and rope_scaling instead of rope_parameters: transformers 4 and 5 read them the
  same way.
  """
  start = None
  pad = None
  stop = None
  if vocabulary is not None:
    start = vocabulary.start_token
    pad = vocabulary.pad_token
    stop = vocabulary.stop[0] if vocabulary.stop else None
  document = dict(
    model_type=name,
    hidden_size=llm.width,
    intermediate_size=llm.mlp,
    num_hidden_layers=llm.depth,
    num_attention_heads=llm.heads,
    num_key_value_heads=llm.kv_heads,
    head_dim=llm.head_dim,
    vocab_size=llm.vocab,
    max_position_embeddings=llm.positions,
    rope_theta=llm.theta,
    rope_scaling=_rope_scaling(llm),
    rms_norm_eps=llm.eps,
    hidden_act="silu",
    tie_word_embeddings=llm.tied,
    attention_dropout=0.0,
    use_cache=True,
    initializer_range=0.02,
    torch_dtype=dtype,
    bos_token_id=start,
    eos_token_id=stop,
    pad_token_id=pad,
  )
  return document | FAMILIES[name](llm)


def llm_alone_config(
  config: Mapping[str, Any],
  dtype: str,
  vocabulary: ExportVocabulary | None,
) -> dict[str, Any]:
  """config.json of the language model alone."""
  section = config["model"]["llm"]
  llm = components.build("llm", section)
  document = llm_config(section["name"], llm, dtype, vocabulary)
  document["transformers_version"] = "4.46.0"
  return document


def _rope_scaling(llm: Any) -> dict[str, Any] | None:
  """The rope_scaling of an llm; None for plain rotary positions."""
  if llm.yarn:
    factor, positions = llm.yarn[:2]
    return dict(
      type="yarn",
      rope_type="yarn",
      factor=factor,
      original_max_position_embeddings=positions,
      **rope.yarn_options(llm.yarn),
    )
  stretch = getattr(llm, "stretch", None)  # A field of Llama alone.
  if stretch:
    return dict(rope_type="llama3", **dict(zip(LLAMA3_KEYS, stretch, strict=True)))
  return None


def _qwen2(llm: Any) -> dict[str, Any]:
  return dict(architectures=["Qwen2ForCausalLM"], **_whole_context(llm))


def _qwen3(llm: Any) -> dict[str, Any]:
  return dict(architectures=["Qwen3ForCausalLM"], attention_bias=False, **_whole_context(llm))


def _llama(llm: Any) -> dict[str, Any]:
  del llm
  return dict(architectures=["LlamaForCausalLM"], attention_bias=False, mlp_bias=False)


def _whole_context(llm: Any) -> dict[str, Any]:
  """Qwen's settings of a sliding window that is off."""
  return dict(use_sliding_window=False, sliding_window=llm.positions, max_window_layers=llm.depth)


FAMILIES = {"qwen2": _qwen2, "qwen3": _qwen3, "llama": _llama}
