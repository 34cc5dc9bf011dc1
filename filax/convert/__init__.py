# SPDX-License-Identifier: Apache-2.0
"""Weights in and out of PyTorch: one table a part, read both ways, every tensor used exactly once.

  filax convert from --help        filax convert to --help        filax/convert/README.md

A part (siglip.py, qwen2.py, ...) ends in TABLE: our path, their name with * for the layer, and the
layout of both sides ("D H d -> (H d) D"). schemes.py puts the prefixes of a family of files in
front. tensors.py reads files lazily, shards.py writes safetensors, item.py reads and writes Orbax
items layer by layer. torch and transformers are imported in functions only, where they are needed.
"""

from collections.abc import Mapping, Sequence


class ConversionError(ValueError):
  """What does not fit, all of it at once: kind -> findings, as one sentence."""

  def __init__(self, what: str, problems: Mapping[str, Sequence[str]], shown: int = 5):
    self.problems = {kind: list(found) for kind, found in problems.items() if found}
    parts = []
    for kind, found in self.problems.items():
      more = f" and {len(found) - shown} more" if len(found) > shown else ""
      parts.append(f"{kind} ({len(found)}): {', '.join(found[:shown])}{more}")
    super().__init__(f"{what}: {'; '.join(parts)}.")
