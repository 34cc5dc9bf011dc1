# SPDX-License-Identifier: Apache-2.0
"""Weights from and to PyTorch: one table a part, read both ways, every tensor used exactly once.

  filax convert from --help        filax convert to --help        filax/convert/README.md

A part (filax/models/llms/qwen2.py, ...) ends in TABLE: our path, their name with * for the layer,
and the layout of both sides ("D H d -> (H d) D"). file_names.py puts the prefixes of a family of
files in front. torch_files.py reads files lazily, safetensors_writer.py writes safetensors,
filax.checkpoint.streamed reads and writes checkpoints layer by layer. torch and transformers are
imported in functions only, where they are needed.
"""

from collections.abc import Mapping, Sequence


class ConversionError(ValueError):
  """Everything that does not fit, as one sentence: kind of problem -> findings."""

  def __init__(
    self,
    summary: str,
    problems: Mapping[str, Sequence[str]],
    limit: int = 5,
  ):
    """`limit`: findings of a kind that the sentence lists; the others are counted."""
    self.problems = {kind: list(findings) for kind, findings in problems.items() if findings}
    parts = []
    for kind, findings in self.problems.items():
      text = ", ".join(findings[:limit])
      if len(findings) > limit:
        text += f" and {len(findings) - limit} more"
      parts.append(f"{kind} ({len(findings)}): {text}")
    super().__init__(f"{summary}: {'; '.join(parts)}.")
