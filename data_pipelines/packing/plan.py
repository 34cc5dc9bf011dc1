# SPDX-License-Identifier: Apache-2.0
"""Makes the plan of a run: samples, media facts and packed rows."""

from collections.abc import Mapping, Sequence
import dataclasses
import fractions
import math
import os
import pathlib
from typing import Any

from data_pipelines.manifest.patterns import listed_mixture
from data_pipelines.manifest.quarantine import add_to_quarantine
from data_pipelines.manifest.report import BadRecord
from data_pipelines.media import remote
from data_pipelines.media.index import MediaIndex, check_readable
from data_pipelines.media.open import LIMITS, Limits
from data_pipelines.media.planned_media import probe_media
from data_pipelines.media.probe_table import ProbeTable
from data_pipelines.packing import fingerprint, frame_sampling, ingredients, planner
from data_pipelines.packing.corpus import Corpus, read_corpus
from data_pipelines.packing.demand import Demand
from data_pipelines.packing.demand_table import DemandTable
from data_pipelines.packing.epochs import EpochStore
from data_pipelines.packing.plan_report import check_room, plan_report, unwritable_records
from data_pipelines.packing.planner import Planner, PlanRow
from data_pipelines.packing.sample_layout import Composer
from data_pipelines.sample import Sample
from data_pipelines.text import tokenizers
from data_pipelines.text.tokenizers import Tokenizer
from filax import settings
from filax.spec import RowShape, VisualLayout


@dataclasses.dataclass(frozen=True)
class Plan:
  """The packed rows of a run, in order.

  They depend only on data, settings and seed.
  """

  data: Mapping[str, Any]  # config.data
  layout: VisualLayout
  seed: int
  batch: int  # Packed rows per global batch.
  limits: Limits
  quarantine: str | os.PathLike | None  # The JSONL file that lists unreadable media.
  blank: bool  # Whether all pictures are grey.
  tokenizer: Tokenizer
  corpus: Corpus
  probes: ProbeTable  # Medium -> its facts.
  composer: Composer
  row_shapes: tuple[RowShape, ...]  # The buckets.
  planner: Planner
  fingerprint: str  # sha256 of the inputs that decide the rows.
  report: Mapping[str, Any]  # Statistics of epoch 0, for JSON.

  @property
  def samples(self) -> Sequence[Sample]:
    """The samples, by number."""
    return self.corpus.samples

  @property
  def ingredients(self) -> dict[str, dict[str, str]]:
    """The inputs of the plan, by part; every process reads them itself.

    Made anew: they take half a kilobyte for each medium.
    """
    return ingredients.plan_ingredients(
      self.data,
      self.corpus,
      self.tokenizer,
      self.probes.descriptions(),
      self.fingerprint,
      self.row_shapes,
    )

  def row_count(self, epoch: int) -> int:
    """Rows of an epoch, a multiple of the batch."""
    return self.planner.row_count(epoch)

  def row(self, number: int) -> PlanRow:
    """The samples and shape of a row, by its global number."""
    return self.planner.row(number)

  def step_count(self, epochs: float) -> int:
    """Global batches in `epochs` epochs; a partial epoch is rounded up."""
    exact = fractions.Fraction(str(epochs))  # As float, 2.2 - 2 is more than 0.2: a batch more.
    complete = int(exact)
    rows = fractions.Fraction(self.planner.first_row(complete))
    if exact > complete:
      rows += (exact - complete) * self.row_count(complete)
    return math.ceil(rows / self.batch)


def make_plan(
  data: Mapping[str, Any],
  layout: VisualLayout,
  seed: int,
  batch: int,
  *,
  quarantine: str | os.PathLike | None = None,
  blank: bool = False,
  planned: Mapping[str, str] | None = None,
) -> Plan:
  """Makes the plan of config.data.

  The manifests are read, each medium is probed once, and the tokens of every text are counted.
  Nothing is decoded. The results are cached in config.data.cache, or beside `quarantine`.

  batch: packed rows per global batch. quarantine: the JSONL file for unreadable media, or None.
  blank: all pictures are grey (a baseline that learns only from text). planned: the
  `ingredients["media"]` of the start of a run, so that a restart has the same plan (see
  MediaIndex). Raises ValueError with one sentence for invalid settings or data.
  """
  data = _checked_data(data, seed, batch)
  shapes = planner.row_shapes(data["rows"], layout.frames_per_unit)
  limits = _media_limits(data)
  tokenizer = tokenizers.load_tokenizer(data["tokenizer"])
  folder = _cache_folder(data, quarantine)
  corpus = read_corpus(data, seed, folder)
  if corpus.videos:
    _check_sampling(data["sampling"], layout)
  probes = _probe_media(data, corpus.media, limits, folder, planned or {}, blank)
  composer = Composer(data, layout, tokenizer, probes, seed)
  facts = fingerprint.sample_facts(
    data, layout, corpus.digest, tokenizer.fingerprint_with(data["template"])
  )
  demand = _demand_table(composer, corpus, probes.descriptions(), facts, folder)
  unwritable = _list_unwritable(demand(0), composer, corpus, quarantine)
  shapes = planner.with_dropout(shapes, layout, demand(0))
  check_room(demand(0), shapes, layout.stages, corpus, data["too_long"])

  order = dict(seed=seed, batch=batch, packing=data["packing"])
  gaps = data.get("position_gaps", 0)
  identity = fingerprint.plan_fingerprint(facts, demand(0), shapes, **order, position_gaps=gaps)
  store = _epoch_store(folder, identity, demand)
  rows = Planner(demand, shapes, vary=composer.vary, store=store, **order)
  return Plan(
    data=data,
    layout=layout,
    seed=seed,
    batch=batch,
    limits=limits,
    quarantine=quarantine,
    blank=blank,
    tokenizer=tokenizer,
    corpus=corpus,
    probes=probes,
    composer=composer,
    row_shapes=shapes,
    planner=rows,
    fingerprint=identity,
    report=plan_report(corpus, probes, rows, layout.stages, unwritable),
  )


def _checked_data(data: Mapping[str, Any], seed: int, batch: int) -> dict[str, Any]:
  """config.data as plain dicts, with the files of each pattern in config.data.train.

  Raises ValueError for an invalid setting.
  """
  plain = _plain(data)
  settings.check_settings(dict(seed=seed, batch=batch, data=plain))
  plain["train"] = listed_mixture(plain["train"])
  return plain


def _media_limits(data: Mapping[str, Any]) -> Limits:
  """The limits on opening and decoding a medium."""
  return Limits(
    data["open_seconds"],
    data["decode_seconds"],
    image_pixels=data.get("image_pixels", LIMITS.image_pixels),
  )


def _cache_folder(data: Mapping[str, Any], quarantine: str | os.PathLike | None) -> str:
  """The cache folder for media facts and text lengths; "" for none."""
  if remote.is_remote(data["cache"]):
    raise ValueError(
      f"config.data.cache={data['cache']!r} is in a bucket, but its files are mapped into memory. "
      "Set it to a folder of this machine."
    )
  if data["cache"]:
    return data["cache"]
  if quarantine:
    return str(pathlib.Path(quarantine).parent / "index")
  return ""


def _probe_media(
  data: Mapping[str, Any],
  media: Sequence[str],
  limits: Limits,
  folder: str,
  planned: Mapping[str, str],
  blank: bool,
) -> ProbeTable:
  """Probes all media, except those whose facts are in `planned`.

  Raises ValueError if nearly all media are unreadable, unless pictures are blank.
  """
  names = ingredients.media_names(media, data)
  facts = {medium: planned[name] for medium, name in names.items() if name in planned}
  path = os.path.join(folder, "index.sqlite") if folder else ""
  index = MediaIndex(path, data["threads"], limits, planned=facts)
  probes = probe_media(media, index, folder)
  if not blank:
    check_readable(len(probes), int(probes.unreadable.sum()), probes.first_error())
  return probes


def _list_unwritable(
  demand: Demand, composer: Composer, corpus: Corpus, quarantine: str | os.PathLike | None
) -> list[BadRecord]:
  """The conversations that the chat template cannot write.

  They are added to the quarantine, by their origins. Raises ValueError if it can write none.
  """
  records = unwritable_records(demand, composer, corpus)
  if quarantine is not None:
    for record in records:
      add_to_quarantine(quarantine, "", record.reason, record.full_place)
  return records


def _demand_table(
  composer: Composer,
  corpus: Corpus,
  media: Mapping[str, str],
  facts: Mapping[str, Any],
  folder: str,
) -> DemandTable:
  """The demand of all samples by epoch."""
  seed = composer.seed if composer.vary else None
  layout = composer.layout
  has_larger_unit = layout.frames_per_unit > layout.frames_per_group
  unit = layout.frames_per_unit if has_larger_unit else 0
  digest = fingerprint.demand_digest(facts, media, seed, unit)
  return DemandTable(composer, corpus.samples, folder, digest)


def _epoch_store(folder: str, identity: str, demand: DemandTable) -> EpochStore | None:
  """Where the rows of epochs are stored; None if nowhere."""
  if not folder:
    return None
  return EpochStore(folder, fingerprint.digest_facts(plan=identity, demand=demand.digest))


def _check_sampling(sampling: Mapping[str, Any], layout: VisualLayout) -> None:
  """Checks the sampling before any video is opened.

  Raises ValueError if videos would not give whole groups and clips of frames.
  """
  minute = frame_sampling.Extent(duration=60.0, last=59.0, frames=60)
  frame_sampling.frame_count(sampling, minute, layout.frames_per_unit)


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
  """A ConfigDict or dict as plain dicts, picklable without ml_collections."""
  plain = {}
  for key, value in data.items():
    plain[key] = _plain(value) if hasattr(value, "items") else value
  return plain
