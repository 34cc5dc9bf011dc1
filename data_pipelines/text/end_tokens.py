# SPDX-License-Identifier: Apache-2.0
"""The end tokens that the files beside a tokenizer name.

All sources count together: the eos_token of the tokenizer, and the ids at which `generate` of
transformers stops. Those are in generation_config.json, or else in config.json.
"""

from collections.abc import Mapping
from typing import Any

GENERATION = "generation_config.json"
SPECIAL = "special_tokens_map.json"
MODEL = "config.json"
_EOS_IDS = "eos_token_id"

EndToken = str | int  # Its name or its id.


def end_tokens(documents: Mapping[str, Any]) -> tuple[EndToken, ...]:
  """The end tokens that files name, without repetition.

  documents: file name -> content.
  """
  ends: dict[EndToken, None] = {}
  for name in ("tokenizer_config.json", SPECIAL):
    text = token_text(_settings(documents, name).get("eos_token"))
    if text is not None:
      ends[text] = None
  ids = _end_ids(_settings(documents, GENERATION)) or _end_ids(_settings(documents, MODEL))
  return (*ends, *ids)


def token_text(value: Any) -> str | None:
  """The text of a token.

  A file gives it as a text, or as an object with its content.
  """
  text = value.get("content") if isinstance(value, Mapping) else value
  return text if isinstance(text, str) and text else None


def _settings(documents: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  content = documents.get(name)
  return content if isinstance(content, Mapping) else {}


def _end_ids(settings: Mapping[str, Any]) -> tuple[int, ...]:
  """The end ids of a model or of its language model.

  They are one number, or a list.
  """
  ids = settings.get(_EOS_IDS)
  if ids is None:
    ids = _settings(settings, "text_config").get(_EOS_IDS)
  if not isinstance(ids, list):
    ids = [ids]
  return tuple(dict.fromkeys(id for id in ids if type(id) is int))
