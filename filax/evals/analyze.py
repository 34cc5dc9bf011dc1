# SPDX-License-Identifier: Apache-2.0
"""Which visual tokens the layers of a model need (VideoChat-Flash, arXiv:2501.00574, Fig. 8 and 9).

  filax analyze attention --checkpoint DIR --video FILE --question TEXT --out attention.png
      How much the last token of the prompt attends to each group of frames, layer by layer.
  filax analyze redundancy --checkpoint DIR --manifest FILE --out redundancy.png [--ratio 0.5]
      Accuracy when visual tokens fall to a ratio after each layer, chosen evenly or by attention.

Each writes a PNG, and beside it a JSON file with the numbers.
"""

import argparse
from collections.abc import Callable, Sequence
import functools
import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from filax import cli, files
from filax.models import components
from filax.spec.dropout_stages import KINDS


def main(argv: Sequence[str]) -> None:
  """argv without the verb."""
  made = cli.Parser(
    prog="filax analyze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  ways = made.add_subparsers(dest="way", required=True)
  for way in ("attention", "redundancy"):
    add = ways.add_parser(way).add_argument
    add("--checkpoint", required=True, help="folder of a run, or of one of its checkpoints")
    add(
      "--components", action="append", default=[], metavar="MODULE", help=components.COMPONENTS_HELP
    )
    add("--out", required=True, help="the PNG; the JSON lies beside it")
    if way == "attention":
      add("--video", required=True)
      add("--question", required=True)
    else:
      add("--manifest", required=True, help="questions, in the format of the training data")
      add(
        "--ratio",
        type=cli.number(high=1, above=True),
        default=0.5,
        help="share of the visual tokens that stay",
      )
      add("--layers", type=cli.wholes(0), help="numbers with commas; default: all")
      add("--limit", type=cli.whole(1), help="ask only so many questions")
      add("--batch", type=cli.whole(1), default=32)
  args = made.parse_args(argv)
  from filax.infer.load import load

  model, params = load(args.checkpoint, components=args.components)
  numbers = pathlib.Path(args.out).with_suffix(".json")
  if args.way == "attention":
    report = attention(model, params, args.video, args.question)
    _write(numbers, report)
    draw_attention(report, args.out)
  else:
    report = redundancy(
      model,
      params,
      args.manifest,
      ratio=args.ratio,
      layers=args.layers,
      limit=args.limit,
      batch=args.batch,
      keep=functools.partial(_write, numbers),
    )
    _write(numbers, report)
    draw_redundancy(report, args.out)
    for line in report["bad_questions"]:
      print(f"skipped {line}", file=sys.stderr)
  print(f"{args.out}, {numbers}")


def _write(path: pathlib.Path, report: dict[str, Any]) -> None:
  with files.write_atomically(path) as file:
    file.write((json.dumps(report, indent=2) + "\n").encode())


def attention(model, params, video: str, question: str) -> dict[str, Any]:
  """The attention of the last prompt token, mean over heads, of every layer: `visual`, its share
  on visual tokens; `groups`, that on each group of frames at `times`."""
  from data_pipelines.text import templates
  from filax.infer.chat import Conversation

  talk = Conversation(model, params, video)
  tokens, index = talk.processor.prompt(templates.question(question), [talk.seen])
  weights = np.asarray(
    jax.jit(_last_attention, static_argnums=0)(
      model, params, jnp.asarray([tokens]), talk.seen.table[None], jnp.asarray(index)[None]
    )
  )[:, 0]
  per_group = model.layout().tokens_per_group
  real = (index >= 0) & (index < per_group * len(talk.times))
  groups = np.zeros((len(weights), len(talk.times)))
  np.add.at(groups, (slice(None), index[real] // per_group), weights[:, real])
  return dict(
    video=video,
    question=question,
    times=talk.times,
    visual=weights[:, index >= 0].sum(1).tolist(),
    groups=groups.tolist(),
  )


def _last_attention(model, params, tokens, table, index):
  """[layers B L]"""
  return model.apply({"params": params}, tokens, table, index, method="last_attention")


def redundancy(
  model,
  params,
  manifest: str,
  *,
  ratio: float = 0.5,
  layers: Sequence[int] | None = None,
  limit: int | None = None,
  batch: int = 32,
  keep: Callable[[dict], None] | None = None,
) -> dict[str, Any]:
  """Accuracy with all visual tokens (`whole`), and by kind when they fall to `ratio` after each of
  `layers` (default: all but the last).

  `skipped` questions that cannot be asked count nowhere; `bad_questions` and `bad_media` say why.
  `keep` gets the report after every measurement. Raises ValueError for a layer that cannot drop.
  """
  from filax.evals.run import evaluate
  from filax.infer.processor import adjusted

  layers = list(range(1, model.llm.depth)) if layers is None else list(layers)
  models = {
    kind: [adjusted(model, dropout=f"{layer}:{kind}:{ratio}") for layer in layers] for kind in KINDS
  }  # An invalid layer is refused before anything is asked.
  whole = evaluate(adjusted(model, dropout="off"), params, manifest, limit=limit, batch=batch)
  report = dict(manifest=manifest, ratio=ratio, layers=layers, whole=whole["accuracy"])
  for key in ("questions", "skipped", "bad_questions", "bad_media", "bad_records"):
    report[key] = whole[key]
  for kind in KINDS:
    report[kind] = []
    for dropping in models[kind]:
      measured = evaluate(dropping, params, manifest, limit=limit, batch=batch)
      report[kind].append(measured["accuracy"])
      if keep is not None:
        keep(report)
  return report


def draw_attention(report: dict[str, Any], path: str) -> None:
  """Layers by groups, beside the share of all visual tokens."""
  figure, (left, right) = _figure(2)
  shown = np.asarray(report["groups"])
  left.imshow(shown / np.maximum(shown.max(1, keepdims=True), 1e-30), aspect="auto")
  left.set(xlabel="group of frames", ylabel="layer", title="attention, of the layer's most")
  right.plot(report["visual"], marker="o")
  right.set(xlabel="layer", ylabel="share on visual tokens", ylim=(0, 1))
  figure.savefig(path)


def draw_redundancy(report: dict[str, Any], path: str) -> None:
  """Accuracy over the layer after which tokens are dropped."""
  figure, (only,) = _figure(1)
  only.axhline(report["whole"], color="grey", label="all tokens")
  for kind in KINDS:
    only.plot(report["layers"], report[kind], marker="o", label=kind)
  only.set(xlabel="dropped after layer", ylabel=f"accuracy at {report['ratio']:g} of the tokens")
  only.legend()
  figure.savefig(path)


def _figure(columns: int):
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure((5 * columns, 4), layout="constrained")
  FigureCanvasAgg(figure)
  return figure, figure.subplots(1, columns, squeeze=False)[0]
