# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a GGUF file as a tokenizer.json."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from filax.convert.gguf.container import GgufFile

_UNKNOWN = 2  # The kinds of tokens in tokenizer.ggml.token_type.
_CONTROL = 3
_USER_DEFINED = 4
_UNUSED = 5
_ADDED = (_UNKNOWN, _CONTROL, _USER_DEFINED)

_BYTE_LEVEL = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
_BYTES_ONLY = _BYTE_LEVEL | dict(use_regex=False)


def _split(pattern: str) -> dict[str, Any]:
  """A pre-tokenizer that splits text into the matches of a pattern."""
  split = dict(type="Split", pattern=dict(Regex=pattern), behavior="Isolated", invert=False)
  return dict(type="Sequence", pretokenizers=[split, _BYTES_ONLY])


_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
_DIGITS = dict(type="Digits", individual_digits=True)
# tokenizer.ggml.pre -> (pre-tokenizer, normaliser, whether whole words need no merges).
PRE_TOKENIZERS: Mapping[str, tuple[Mapping[str, Any], str | None, bool]] = {
  "default": (_BYTE_LEVEL, None, False),
  "gpt-2": (_BYTE_LEVEL, None, False),
  "smollm": (dict(type="Sequence", pretokenizers=[_DIGITS, _BYTE_LEVEL]), None, False),
  "qwen2": (_split(_CONTRACTIONS + _WORDS % ""), "NFC", False),
  "llama-bpe": (_split(_CONTRACTIONS + _WORDS % "{1,3}"), None, True),
}


def tokenizer_json(path: Path) -> bytes:
  """The content of a tokenizer.json.

  Raises ValueError for a kind of tokenizer that is not implemented; --tokenizer names another.
  """
  file = GgufFile(path)
  remedy = "Give --tokenizer the tokenizer.json of the model."
  kind = file.text("tokenizer.ggml.model")
  if kind != "gpt2":
    raise ValueError(f"{path.name} has a tokenizer of kind {kind!r}, not byte-level BPE. {remedy}")
  pre = file.value("tokenizer.ggml.pre", "default")
  if pre not in PRE_TOKENIZERS:
    raise ValueError(
      f"{path.name} splits words by the rule {pre!r}. Known are {', '.join(PRE_TOKENIZERS)}. "
      f"{remedy}"
    )
  tokens = file.value("tokenizer.ggml.tokens", [])
  kinds = file.value("tokenizer.ggml.token_type", [])
  merges = file.value("tokenizer.ggml.merges", [])
  if not tokens or len(kinds) != len(tokens):
    raise ValueError(
      f"{path.name} has {len(tokens)} tokens and {len(kinds)} kinds of them. {remedy}"
    )
  splits, normaliser, ignore_merges = PRE_TOKENIZERS[pre]
  document = dict(
    version="1.0",
    truncation=None,
    padding=None,
    added_tokens=_added_tokens(tokens, kinds),
    normalizer=None if normaliser is None else dict(type=normaliser),
    pre_tokenizer=splits,
    post_processor=None,
    decoder=_BYTE_LEVEL,
    model=dict(
      type="BPE",
      dropout=None,
      unk_token=None,
      continuing_subword_prefix=None,
      end_of_word_suffix=None,
      fuse_unk=False,
      byte_fallback=False,
      ignore_merges=ignore_merges,
      vocab=_vocabulary(tokens, kinds),
      merges=merges,
    ),
  )
  return json.dumps(document, ensure_ascii=False).encode()


def chat_settings(path: Path) -> dict[str, Any]:
  """The chat template and the tokens that it names, as in tokenizer_config.json.

  Under chat_template is None if the file has no template.
  """
  file = GgufFile(path)
  tokens = file.value("tokenizer.ggml.tokens", [])
  config: dict[str, Any] = dict(chat_template=file.value("tokenizer.chat_template"))
  for name, key in (("bos_token", "bos_token_id"), ("eos_token", "eos_token_id")):
    number = file.value(f"tokenizer.ggml.{key}")
    if isinstance(number, int) and 0 <= number < len(tokens):
      config[name] = tokens[number]
  return config


def _vocabulary(tokens: Sequence[str], kinds: Sequence[int]) -> dict[str, int]:
  """Token -> id, without the rows that are only padding."""
  vocabulary = {}
  for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
    if kind != _UNUSED:
      vocabulary[token] = number
  return vocabulary


def _added_tokens(tokens: Sequence[str], kinds: Sequence[int]) -> list[dict[str, Any]]:
  """Control tokens, which are special, and added words."""
  added = []
  for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
    if kind not in _ADDED:
      continue
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    added.append(dict(id=number, content=token, special=kind != _USER_DEFINED, **flags))
  return added
