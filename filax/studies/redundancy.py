# SPDX-License-Identifier: Apache-2.0
"""Accuracy with visual tokens dropped after one layer.

VideoChat-Flash (arXiv:2501.00574), Fig. 9.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

from filax.evals.run import evaluate
from filax.infer.loaded import LoadedModel
from filax.spec.dropout_stages import KINDS
from filax.studies.figure import figure_of


def redundancy(
  loaded: LoadedModel,
  manifest: str,
  *,
  ratio: float = 0.5,
  layers: Sequence[int] | None = None,
  limit: int | None = None,
  batch: int = 32,
  root: str = "",
  allow_missing: bool = False,
  keep: Callable[[dict], None] | None = None,
) -> dict[str, Any]:
  """Accuracy with all visual tokens (`whole`), and by kind of dropping.

  Visual tokens are reduced to `ratio` after each of `layers`, one layer at a time (default: all but
  the last). `skipped` questions count nowhere; `bad_questions` and `bad_media` give the reasons.
  `limit`, `batch`, `root` and `allow_missing` are those of filax.evaluate. `keep` receives the
  report after every measurement. Raises ValueError for an invalid layer.
  """
  layers = list(range(1, loaded.model.llm.depth)) if layers is None else list(layers)
  models = {}
  for kind in KINDS:  # Rejects an invalid layer before any question is asked.
    models[kind] = [loaded.adjusted(dropout=f"{layer}:{kind}:{ratio}") for layer in layers]
  measure = functools.partial(
    evaluate, limit=limit, batch=batch, root=root, allow_missing=allow_missing
  )
  all_tokens = measure(loaded.adjusted(dropout="off"), manifest)
  report = dict(manifest=manifest, ratio=ratio, layers=layers, whole=all_tokens["accuracy"])
  for key in ("questions", "skipped", "bad_questions", "bad_media", "bad_records"):
    report[key] = all_tokens[key]
  for kind in KINDS:
    report[kind] = []
    for model in models[kind]:
      measured = measure(model, manifest)
      report[kind].append(measured["accuracy"])
      if keep is not None:
        keep(report)
  return report


def draw_redundancy(report: dict[str, Any], path: str) -> None:
  """Draws the accuracy over the layer after which tokens are dropped."""
  figure, (axes,) = figure_of(1)
  axes.axhline(report["whole"], color="grey", label="all tokens")
  for kind in KINDS:
    axes.plot(report["layers"], report[kind], marker="o", label=kind)
  axes.set(xlabel="dropped after layer", ylabel=f"accuracy at {report['ratio']:g} of the tokens")
  axes.legend()
  figure.savefig(path)
