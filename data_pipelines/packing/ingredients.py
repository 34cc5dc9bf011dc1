# SPDX-License-Identifier: Apache-2.0
"""What decided a plan and is read by every process for itself, in parts that can be compared.

Part -> name -> a short text that differs where the content does. Names do not tell where a host
keeps its files, so that hosts may keep the same files in different folders.
"""

from collections.abc import Iterable, Mapping, Sequence
import os
from typing import Any

from data_pipelines.media.index import describe
from data_pipelines.media.probe import Probe
from data_pipelines.packing.corpus import Corpus
from data_pipelines.text.tokenizers import Tokenizer
from filax.spec import RowShape

_DIGITS = 16  # Of a digest; enough to tell contents apart.


def plan_ingredients(
  data: Mapping[str, Any],
  corpus: Corpus,
  tokenizer: Tokenizer,
  probes: Mapping[str, Probe],
  fingerprint: str,
  rows: Sequence[RowShape],
) -> dict[str, dict[str, str]]:
  """The parts of a plan, causes before what follows from them."""
  manifests = {}
  for number, (manifest, strategy) in enumerate(data["train"], 1):
    digest = corpus.manifests[str(manifest)][:_DIGITS]
    manifests[f"{number}. {os.path.basename(manifest)}"] = f"{strategy} of {digest}"
  names = media_names(probes, data)
  media = {names[medium]: describe(probe) for medium, probe in probes.items()}
  tokenizer_name = os.path.basename(data["tokenizer"])
  shapes = ", ".join(map(str, rows))
  return {
    "manifests": manifests,
    "exclusions": dict.fromkeys(sorted(corpus.exclusions), "left out"),
    "tokenizer": {tokenizer_name: tokenizer.fingerprint[:_DIGITS]},
    "media": media,
    "plan": dict(fingerprint=fingerprint, rows=shapes),
  }


def media_names(media: Iterable[str], data: Mapping[str, Any]) -> dict[str, str]:
  """medium -> its path below config.data.root, or below the folder of a manifest.

  A medium that lies elsewhere, or whose name another one took, keeps its whole path.
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
  """The folders that media paths begin with, each with a separator at its end."""
  if data["root"]:
    return [os.path.join(data["root"], "")]
  roots = []
  for manifest, _ in data["train"]:
    folder = os.path.dirname(manifest)
    root = os.path.join(folder, "")
    if folder and root not in roots:
      roots.append(root)
  return roots
