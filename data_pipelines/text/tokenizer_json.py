# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of a tokenizer.json, read by the library `tokenizers`."""

from collections.abc import Mapping, Sequence
import functools
import itertools
import json
from typing import Any

from data_pipelines.text.tokenizer import ALWAYS_CONTROLS, Tokenizer, sound_text
from data_pipelines.text.word_borders import keeps_words_apart

AddedToken = Mapping[str, Any]  # An entry of "added_tokens" in a tokenizer.json.


class JsonTokenizer(Tokenizer):
  """A tokenizer.json.

  Text is encoded by a copy of it in which control tokens never match.
  """

  filename = "tokenizer.json"

  def _load(self, content: bytes):
    import tokenizers

    data = json.loads(content)
    added = data.get("added_tokens") or []
    self.controls = {token["content"]: token["id"] for token in added if _is_control(token)}
    text_data = data | _text_settings(added)
    self._for_text = tokenizers.Tokenizer.from_str(json.dumps(text_data))
    self._for_text.encode_special_tokens = True  # Encodes control tokens in text as plain letters.
    unknown = data["model"].get("unk_token")  # Stands for unknown words: not refused.
    self._refused = frozenset(id for name, id in self.controls.items() if name != unknown)
    vocabulary = self._for_text.get_vocab(with_added_tokens=True)
    self.vocab_size = 1 + max(vocabulary.values())
    words = self._for_text.get_vocab(with_added_tokens=False)
    self._never_refused = self._refused.isdisjoint(words.values())
    self._plain_words = _plain_words(added)
    self.divides = self._never_refused and keeps_words_apart(data, self._plain_words)

  @functools.cached_property
  def _full(self):
    """The tokenizer as it is, to decode.

    Workers only encode, so they never load it.
    """
    import tokenizers

    return tokenizers.Tokenizer.from_str(self.content.decode())

  @functools.cached_property
  def _verbatim(self) -> dict[int, str]:
    """The plain words, by id, that the library's decoder changes.

    A byte-level decoder interprets the letters of "<é>" as bytes.
    """
    words = {}
    for token in self._plain_words:
      written = self._full.decode([token["id"]], skip_special_tokens=False)
      if written != token["content"]:
        words[token["id"]] = token["content"]
    return words

  def _id_of(self, token: str) -> int | None:
    return self._for_text.token_to_id(token)

  def _encode(self, text: str) -> list[int]:
    """Encodes text.

    If the base vocabulary contains a control's name as a word, the name is split. This occurs in
    vocabularies of whole words, and with `ignore_merges`.
    """
    ids = []
    waiting = [text]  # The last part is next.
    while waiting:
      part = waiting.pop()
      encoding = self._for_text.encode(part, add_special_tokens=False)
      if self._refused.isdisjoint(encoding.ids):
        ids += encoding.ids
        continue
      cuts = self._cuts(encoding)
      if not cuts:  # Single letters that a normaliser turned into a name.
        ids += [id for id in encoding.ids if id not in self._refused]
        continue
      end = len(part)
      for start in [*reversed(cuts), 0]:
        waiting.append(part[start:end])
        end = start
    return ids

  def _cuts(self, encoding) -> list[int]:
    """Ascending positions after the first letter of each control's name.

    Names of one letter have none.
    """
    cuts = []
    for id, offsets in zip(encoding.ids, encoding.offsets, strict=True):
      start, end = offsets
      if id in self._refused and end - start > 1:
        cuts.append(start + 1)
    return cuts

  def _count_each(self, texts: Sequence[str]) -> list[int]:
    if not self._never_refused:
      return super()._count_each(texts)
    sound = list(map(sound_text, texts))
    encodings = self._for_text.encode_batch_fast(sound, add_special_tokens=False)
    return list(map(len, encodings))

  def _decode(self, ids: list[int]) -> str:
    text: list[str] = []
    for is_verbatim, run in itertools.groupby(ids, self._verbatim.__contains__):
      if is_verbatim:
        text += map(self._verbatim.__getitem__, run)
      else:
        text.append(self._full.decode([*run], skip_special_tokens=False))
    return "".join(text)


def _text_settings(added: Sequence[AddedToken]) -> dict[str, Any]:
  """The fields of a tokenizer.json changed for encoding plain text.

  Controls are special, and no control tokens are added.
  """
  tokens = []
  for token in added:
    special = token.get("special", False) or _is_control(token)
    tokens.append({**token, "special": special})
  return {"added_tokens": tokens, "post_processor": None, "truncation": None, "padding": None}


def _plain_words(added: Sequence[AddedToken]) -> list[AddedToken]:
  """The added tokens that text may contain."""
  return [token for token in added if not _is_control(token)]


def _is_control(token: AddedToken) -> bool:
  """Whether an added token is a control; single characters never are."""
  name = token["content"]
  if len(name) < 2:
    return False
  return token.get("special", False) or name in ALWAYS_CONTROLS
