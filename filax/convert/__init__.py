# SPDX-License-Identifier: Apache-2.0
"""Conversion of weights from and to PyTorch.

  filax convert from --help        filax convert to --help        filax/convert/README.md

One table per component serves both directions, and every tensor is used exactly once. A component
(filax/models/llms/qwen2.py, ...) ends in TABLE: our path, their name with * for the layer, and the
layout of both sides ("D H d -> (H d) D"). file_names.py puts the prefixes of a family of files in
front. torch_files.py reads files lazily, safetensors_writer.py writes safetensors,
filax.checkpoint.streamed reads and writes checkpoints layer by layer. torch and transformers are
imported in functions only, where they are needed.
"""

from collections.abc import Mapping, Sequence


class ConversionError(ValueError):
  """All problems of a conversion, in one sentence.

  `problems` maps a kind of problem to its findings.
  """

  def __init__(
    self,
    summary: str,
    problems: Mapping[str, Sequence[str]],
    limit: int = 5,
  ):
    """`limit`: findings listed per kind; further findings are counted."""
    self.problems = {kind: list(findings) for kind, findings in problems.items() if findings}
    parts = []
    for kind, findings in self.problems.items():
      text = ", ".join(findings[:limit])
      if len(findings) > limit:
        text += f" and {len(findings) - limit} more"
      parts.append(f"{kind} ({len(findings)}): {text}")
    super().__init__(f"{summary}: {'; '.join(parts)}.")


class UnreadableWeights(ConversionError):
  """Files of weights that no option helps to read: damaged, incomplete, or without torch."""
