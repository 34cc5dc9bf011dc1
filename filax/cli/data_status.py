# SPDX-License-Identifier: Apache-2.0
"""filax data status --config F[:args] [--root DIR] [--config.key=value ...]

Says which manifests of a config are present, and how many samples and hours of video they have. For
each missing manifest it says the licence and where to get it. For a stage of FiLA-Video or
VideoChat-Flash it also looks for the published mixture below DIR.

Hours are counted for media that a run has measured before (config.data.cache or --index). --probe
opens the others.

Exit code 0: config.data.train or the published mixture is complete; 1: neither is.

  filax data status --config configs/vcf_stage3.py --root /data/vcf
  filax train --config configs/vcf_stage3.py:mixture=present,root=/data/vcf --workdir runs/stage3
"""

from collections.abc import Iterable, Iterator, Sequence
import importlib
import itertools
import json
import os
import pathlib
import sys

from data_pipelines.manifest.patterns import fitting_files, missing_shards
from data_pipelines.media.index import MediaIndex
from data_pipelines.tools.status import ExpectedManifest, MixtureStatus, mixture_status
from filax import host_limits, shipped_configs
from filax.cli import config_flags, options
from filax.configs.mixtures import parts

TRAIN = "config.data.train"
_INDEX = "index.sqlite"
_MOST_MISSING = 100  # Missing shards of a pattern that are listed.


def main(argv: Sequence[str]) -> int:
  """argv without the verbs -> exit code."""
  args, overrides = status_parser().parse_known_args(argv)
  file, arguments, wanted = split_config(args.config)
  config, _ = config_flags.read_config(["--config", f"{file}{arguments}", *overrides])
  index = open_index(args.index or config.data.cache, args.probe)
  root = args.root or wanted.get("root", "") or "data"
  kinds = dict(
    root=config.data.root,
    seed=config.seed,
    index=index,
    probe=args.probe,
    progress=sys.stderr,
  )
  mixture = list(published_manifests(file, root))
  statuses = []
  if not (mixture and wanted.get("mixture")):
    statuses.append(mixture_status(TRAIN, train_manifests(config.data.train), **kinds))
  if mixture:
    title = f"Published mixture below {root}"
    statuses.append(mixture_status(title, mixture, **kinds))
  if args.json:
    print(json.dumps([status.as_dict() for status in statuses], indent=2))
  else:
    print("\n".join(report_lines(statuses, file, root)))
  return 0 if any(not status.missing for status in statuses) else 1


def train_manifests(mixture: Iterable[tuple[str, str]]) -> list[ExpectedManifest]:
  """The manifests of config.data.train, with the missing shards of its patterns.

  A pattern that fits no file stands for itself. Raises ManifestError for one in a bucket.
  """
  expected: list[ExpectedManifest] = []
  for manifest, strategy in mixture:
    name = str(manifest)
    paths = fitting_files(name) or [name]
    missing = itertools.islice(missing_shards(name, paths), _MOST_MISSING)
    for path in sorted((*paths, *missing)):
      expected.append(ExpectedManifest(path, strategy))
  return expected


def status_parser() -> options.Parser:
  """The options of `filax data status`."""
  parser = options.config_parser("data status", __doc__)
  add = parser.add_argument
  add("--root", default="", help="the folder of the published mixture; default: data")
  add("--index", default="", help="a folder with index.sqlite, such as a run's index")
  add("--probe", action="store_true", help="open media whose hours are not known")
  add("--json", action="store_true", help="print JSON instead of text")
  return parser


def split_config(text: str) -> tuple[str, str, dict[str, str]]:
  """F:args -> (F, ":args" without a mixture, the arguments of the mixture)."""
  file, _, arguments = text.partition(":")
  wanted = {}
  others = []
  for item in filter(None, arguments.split(",")):
    name, _, value = item.partition("=")
    if name in ("mixture", "root"):
      wanted[name] = value
    else:
      others.append(item)
  return file, ":" + ",".join(others) if others else "", wanted


def published_manifests(file: str, root: str) -> Iterator[ExpectedManifest]:
  """The published mixture of a shipped stage, at its places below `root`.

  Other configs have none.
  """
  stage = pathlib.PurePath(file).stem
  if not (shipped_configs.FOLDER / "mixtures" / f"{stage}.py").is_file():
    return
  root = os.path.expanduser(root)
  for part in importlib.import_module(f"filax.configs.mixtures.{stage}").PARTS:
    yield ExpectedManifest(
      path=parts.locate(part, root) or os.path.join(root, part.file),
      strategy=part.strategy,
      published=part.samples,
      source=part.source.name,
      annotations=part.annotations,
      media=part.source.media,
      licence=part.source.licence,
    )


def open_index(folder: str, probe: bool) -> MediaIndex | None:
  """The facts of media in a folder; None without any."""
  path = os.path.join(folder, _INDEX) if folder else ""
  if not probe and not os.path.isfile(path):
    return None
  return MediaIndex(path, host_limits.usable_cpus(), progress=sys.stderr)


def report_lines(statuses: Sequence[MixtureStatus], file: str, root: str) -> Iterator[str]:
  """The status as text, ending in what can be trained on."""
  for status in statuses:
    yield from status.lines()
    yield ""
  published = statuses[-1]
  if not statuses[0].missing:
    yield "All manifests are present."
  elif published.title != TRAIN and published.present:
    arguments = f"mixture=present,root={root}"
    yield f"To train on what is present: filax train --config {file}:{arguments} --workdir DIR"
  elif statuses[0].present:
    yield "To train on what is present, set config.data.train to the manifests listed first."
  else:
    yield "Nothing can be trained on yet. Put manifests at the paths above, with their media."
