# SPDX-License-Identifier: Apache-2.0
"""A needle test before anything is encoded: options, needles, pictures and model."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from filax.evals.needle import cells as cells_lib
from filax.evals.needle import items as items_lib
from filax.evals.needle import pictures as pictures_lib
from filax.evals.needle.cells import Cell
from filax.evals.needle.contexts import prompt_frame
from filax.evals.needle.items import NeedleItem
from filax.evals.needle.protocols import NeedleProtocol, comparison_text, find_needle_protocol
from filax.infer.loaded import LoadedModel


@dataclasses.dataclass(frozen=True)
class NeedleOptions:
  """What is hidden where: the options of `run_needles`."""

  protocol: str = "vcf"
  multi_hop: bool = False
  lengths: Sequence[int] = ()  # Haystack frames; default: the protocol's.
  depths: Sequence[float] = ()  # 0..1; default: the protocol's.
  needles: str = ""  # A needle file, or a folder with the released one; default: drawn cards.
  images: str = ""  # The folder of the needle pictures; default: beside the needle file.
  haystack: str = ""  # A video; default: drawn scenes.
  limit: int | None = None  # Ask about the first needles only.
  seed: int = 0  # Seed for drawn cards and scenes.
  encode_cache: str = ""  # A folder for the visual tokens of a haystack video.
  progress: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class NeedleTest:
  """A test ready to be chosen."""

  loaded: LoadedModel
  protocol_name: str
  protocol: NeedleProtocol
  options: NeedleOptions
  lengths: tuple[int, ...]
  depths: tuple[float, ...]
  items: list[NeedleItem]  # The asked ones.
  others: list[NeedleItem]  # All whose pictures are readable.
  pictures: Mapping[str, np.ndarray]
  bad_media: Mapping[str, str]  # Picture -> why it is unreadable.
  skipped: Mapping[str, str]  # Item -> why it is not asked.
  needle_file: str

  @property
  def shares_prefixes(self) -> bool:
    """Whether contexts may share keys and values."""
    return not self.loaded.model.stages

  def cells(self) -> list[Cell]:
    """The cells of the test and of its controls."""
    test = cells_lib.score_cells(
      self.items,
      self.lengths,
      self.depths,
    )
    controls = cells_lib.control_cells(
      self.items, self.others, self.lengths, self.depths, self.shares_prefixes
    )
    return test + controls


def prepare_test(loaded: LoadedModel, options: NeedleOptions) -> NeedleTest:
  """Reads needles and pictures; nothing is encoded yet."""
  name, protocol = find_needle_protocol(options.protocol, options.multi_hop)
  loaded = prepare_model(loaded)
  needle_file = ""
  source = pictures_lib.PictureSource()
  if options.needles:
    needle_file = items_lib.find_file(options.needles, options.multi_hop)
    folders = pictures_lib.folders_of(needle_file, options.images)
    source = pictures_lib.PictureSource(
      folders,
      loaded.processor.limits,
      loaded.processor.resize,
    )
    items = items_lib.read_items(needle_file)
  else:
    records = protocol.drawn(protocol.items, options.seed)
    items = items_lib.parse_items(records, "cards")
  _check_hops(items, options, needle_file)
  pictures, bad_media = pictures_lib.read_pictures(
    source,
    items,
    loaded.model.encoder.size,
  )
  skipped = _unreadable_items(items, bad_media)
  skipped |= _unwritable_items(items, loaded)
  readable = [item for item in items if item.id not in skipped]
  if not readable:
    reason = next(iter(skipped.values()))
    raise ValueError(f"None of the {len(items)} needles can be asked; the first: {reason}")
  chosen = readable[: options.limit]
  return NeedleTest(
    loaded=loaded,
    protocol_name=name,
    protocol=protocol,
    options=options,
    lengths=_sorted_unique(options.lengths or protocol.lengths),
    depths=() if options.multi_hop else _sorted_unique(options.depths or protocol.depths),
    items=chosen,
    others=readable,
    pictures=_shown_pictures(chosen, readable, pictures),
    bad_media=bad_media,
    skipped=skipped,
    needle_file=needle_file,
  )


def prepare_model(loaded: LoadedModel) -> LoadedModel:
  """The model with neighbouring frames as groups, and padded pictures.

  A choosing selector would need all frames at once, and might not show the needle's.
  """
  if loaded.model.selector.needs_single:
    loaded = loaded.with_selector("uniform")
  processor = loaded.processor
  data = dict(processor.data) | dict(resize="pad")
  return dataclasses.replace(loaded, processor=dataclasses.replace(processor, data=data))


def _check_hops(
  items: Sequence[NeedleItem],
  options: NeedleOptions,
  path: str,
) -> None:
  """Raises ValueError for chains without --multi-hop, and the reverse."""
  if options.multi_hop and options.depths:
    raise ValueError("--depths has no meaning with --multi-hop: needles are spread evenly.")
  if options.images and not options.needles:
    raise ValueError("--images are the pictures of --needles, which is missing.")
  chains = items_lib.is_multi_hop(items)
  if chains and not options.multi_hop:
    raise ValueError(f"{path} holds chains of pictures. Add --multi-hop.")
  if options.multi_hop and not chains:
    raise ValueError(f"{path} holds single needles, not chains. Leave out --multi-hop.")


def _unreadable_items(items: Sequence[NeedleItem], bad_media: Mapping[str, str]) -> dict[str, str]:
  """Item -> why it cannot be asked."""
  skipped = {}
  for item in items:
    for name in item.pictures:
      if name in bad_media:
        skipped[item.id] = bad_media[name]
        break
  return skipped


def _unwritable_items(items: Sequence[NeedleItem], loaded: LoadedModel) -> dict[str, str]:
  """Item -> why no answer can be right: its tokenizer lacks letters."""
  tokenizer = loaded.processor.tokenizer
  skipped = {}
  for item in items:
    for question in item.questions:
      frame = prompt_frame(
        loaded.processor,
        question.text,
        question.answer,
      )
      written = comparison_text(tokenizer.decode(frame.answer))
      if written != comparison_text(question.answer):
        skipped[item.id] = (
          f"The checkpoint's tokenizer writes the answer {question.answer!r} as {written!r}. "
          "--protocol longva asks for words instead of letters."
        )
  return skipped


def _shown_pictures(
  chosen: Sequence[NeedleItem],
  readable: Sequence[NeedleItem],
  pictures: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """The pictures of the asked items.

  Also those of the needles that replace theirs.
  """
  used = {}
  for item in chosen:
    keys = pictures_lib.item_keys(item)
    other = cells_lib.other_picture(item, readable)
    if other is not None:
      keys.append(other)
    for key in keys:
      used[key] = pictures[key]
  return used


def _sorted_unique(values: Sequence) -> tuple:
  return tuple(sorted(set(values)))
