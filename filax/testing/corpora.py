# SPDX-License-Identifier: Apache-2.0
"""A corpus of every kind of sample over real, tiny media, and a pipeline over it."""

from collections.abc import Mapping
import os
import pathlib
from typing import Any

from data_pipelines.loader import Pipeline, make_plan
from filax.spec import VisualLayout
from filax.testing import clips
from filax.testing.manifests import question_record, write_manifest
from filax.testing.tiny_tokenizer import write_qwen_tokenizer

LAYOUT = VisualLayout(size=32, frames_per_group=3, group_grid=(2, 2), image_grid=(3, 3))


def write_corpus(folder: pathlib.Path) -> pathlib.Path:
  """Writes media, manifest.json and tokenizer.json."""
  write_manifest(folder / "manifest.json", write_media(folder))
  data_config(folder)
  return folder


def write_media(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Writes media and returns their records.

  They are videos, parts of videos, a timeline, pictures, several videos, a folder, and text alone.
  """
  clips.write_video(folder / "a.mp4", 40, 10)
  clips.write_video(folder / "b.mp4", 24, 8, first=100)
  clips.write_video(folder / "one.mp4", 1, 10)
  clips.write_picture(folder / "wide.png", 7, 96, 40)
  clips.write_picture(folder / "tall.png", 9, 40, 64)
  clips.write_picture_folder(folder / "frames", 8)
  timeline = [dict(media="a.mp4", t0=0.0, t1=1.5), dict(media="b.mp4", t0=1.0, t1=2.5)]
  pictures = ["tall.png", "wide.png"]
  videos = ["a.mp4", "b.mp4"]
  part = dict(video="a.mp4", start=1.0, end=3.0)
  return [
    question_record("<image>\nWhat is shown?", "A square moves.", video="a.mp4"),
    question_record("<image>\nAnd from one to three?", "A square.", **part),
    question_record("<image>\nWhat?", "One frame.", video="one.mp4"),
    question_record("<image>\nWhat is in it?", "Bars, wide.", image="wide.png"),
    question_record("<image><image>\nCompare them.", "One is tall.", image=pictures),
    question_record("Say <|im_end|> hello.", "Hello!"),
    question_record("<image>\nWhat happens?", "Two clips.", scenes=timeline),
    question_record("<image>\n<image>\nWhich is longer?", "The first.", video=videos),
    question_record("<image>\nWhat is drawn?", "Numbers.", video="frames"),
  ]


def data_config(folder: pathlib.Path, **changes: Any) -> dict[str, Any]:
  """config.data for manifest.json of a folder, with a tokenizer of its own."""
  tokenizer = folder / "tokenizer.json"
  if not tokenizer.exists():
    write_qwen_tokenizer(folder)
  config = dict(
    train=((str(folder / "manifest.json"), "all"),),
    root="",
    tokenizer=str(tokenizer),
    template="chatml",
    system="Be brief.",
    labels="llava",
    time_prompt="none",
    sampling=dict(name="uniform", frames=6, phase="ends"),
    images=dict(mode="squash", tiles=1),
    rows=((12, 2, 224, 4),),
    packing=True,
    too_long="error",
    exclude="",
    cache="",
    threads=2,
    workers=0,
    prefetch=1,
    open_seconds=10.0,
    decode_seconds=60.0,
  )
  return config | changes


def open_pipeline(
  folder: pathlib.Path,
  seed: int = 0,
  batch: int = 2,
  layout: VisualLayout = LAYOUT,
  quarantine: str | os.PathLike | None = None,
  blank: bool = False,
  planned: Mapping[str, str] | None = None,
  **changes: Any,
) -> Pipeline:
  """A pipeline over the corpus in a folder.

  changes: keys of config.data.
  """
  config = data_config(folder, **changes)
  plan = make_plan(config, layout, seed, batch, quarantine=quarantine, blank=blank, planned=planned)
  return Pipeline(plan)
