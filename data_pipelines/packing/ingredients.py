# SPDX-License-Identifier: Apache-2.0
"""The inputs that decided a plan, to compare across processes and runs.

Every process reads these inputs itself. Part -> name -> a short text that identifies the content.
Names leave out a host's own folders, so hosts may keep the same files in different places.
"""

from collections.abc import Iterable, Mapping, Sequence
import os
from typing import Any

from data_pipelines.packing.corpus import Corpus
from data_pipelines.text.tokenizers import Tokenizer
from filax.spec import RowShape

_DIGITS = 16  # Digits of a digest, enough to distinguish contents.


def plan_ingredients(
  data: Mapping[str, Any],
  corpus: Corpus,
  tokenizer: Tokenizer,
  facts: Mapping[str, str],
  fingerprint: str,
  rows: Sequence[RowShape],
) -> dict[str, dict[str, str]]:
  """The inputs of a plan by part, causes before consequences.

  facts: those of every medium (`describe`).
  """
  manifests = {}
  for number, (manifest, strategy) in enumerate(data["train"], 1):
    digest = corpus.manifests[str(manifest)][:_DIGITS]
    manifests[f"{number}. {os.path.basename(manifest)}"] = f"{strategy} of {digest}"
  names = media_names(facts, data)
  media = {names[medium]: text for medium, text in facts.items()}
  tokenizer_name = os.path.basename(data["tokenizer"])
  shapes = ", ".join(map(str, rows))
  return {
    "manifests": manifests,
    "exclusions": dict.fromkeys(sorted(corpus.exclusions), "left out"),
    "tokenizer": {tokenizer_name: tokenizer.fingerprint_with(data["template"])[:_DIGITS]},
    "media": media,
    "plan": dict(fingerprint=fingerprint, rows=shapes),
  }


def media_names(media: Iterable[str], data: Mapping[str, Any]) -> dict[str, str]:
  """Medium -> its path relative to config.data.root or a manifest's folder.

  A medium outside these folders, or with a name already taken, keeps its full path.
  """
  roots = _roots(data)
  names = {}
  taken = set()
  for medium in media:
    root = next((root for root in roots if medium.startswith(root)), "")
    name = medium.removeprefix(root)
    if name in taken:
      name = medium
    taken.add(name)
    names[medium] = name
  return names


def _roots(data: Mapping[str, Any]) -> list[str]:
  """The root folders of media paths, each ending in a separator."""
  if data["root"]:
    return [os.path.join(data["root"], "")]
  roots = []
  for manifest, _ in data["train"]:
    folder = os.path.dirname(manifest)
    root = os.path.join(folder, "")
    if folder and root not in roots:
      roots.append(root)
  return roots
