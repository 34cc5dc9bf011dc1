# SPDX-License-Identifier: Apache-2.0
"""A corpus of every kind of sample over real, tiny media, and settings that suit it."""

import pathlib

import clips
from small_tokenizers import qwen_like

from data_pipelines.loader import Pipeline, make_plan
from filax.spec import VisualLayout

LAYOUT = VisualLayout(size=32, frames_per_group=3, group_grid=(2, 2), image_grid=(3, 3))


def records(folder: pathlib.Path) -> list[dict]:
  """Writes media and gives records: videos, clips, a timeline, pictures, several videos, text."""
  clips.write(folder / "a.mp4", 40, 10)
  clips.write(folder / "b.mp4", 24, 8, first=100)
  clips.write(folder / "one.mp4", 1, 10)
  clips.picture(folder / "wide.png", 7, 96, 40)
  clips.picture(folder / "tall.png", 9, 40, 64)
  clips.folder(folder / "frames", 8)
  say = clips.record
  return [
    say("<image>\nWhat is shown?", "A square moves.", video="a.mp4"),
    say("<image>\nAnd from one to three?", "A square.", video="a.mp4", start=1.0, end=3.0),
    say("<image>\nWhat?", "One frame.", video="one.mp4"),
    say("<image>\nWhat is in it?", "Bars, wide.", image="wide.png"),
    say("<image><image>\nCompare them.", "One is tall.", image=["tall.png", "wide.png"]),
    say("Say <|im_end|> hello.", "Hello!"),
    say(
      "<image>\nWhat happens?",
      "Two clips.",
      scenes=[dict(media="a.mp4", t0=0.0, t1=1.5), dict(media="b.mp4", t0=1.0, t1=2.5)],
    ),
    say("<image>\n<image>\nWhich is longer?", "The first.", video=["a.mp4", "b.mp4"]),
    say("<image>\nWhat is drawn?", "Numbers.", video="frames"),
  ]


def settings(folder: pathlib.Path, **more) -> dict:
  """config.data for manifest.json of a folder, with a tokenizer of its own."""
  tokenizer = folder / "tokenizer.json"
  if not tokenizer.exists():
    qwen_like(folder)
  return (
    dict(
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
    | more
  )


def pipeline(
  folder: pathlib.Path,
  seed: int = 0,
  batch: int = 2,
  layout: VisualLayout = LAYOUT,
  quarantine=None,
  blank: bool = False,
  planned=None,
  **more,
) -> Pipeline:
  plan = make_plan(
    settings(folder, **more),
    layout,
    seed,
    batch,
    quarantine=quarantine,
    blank=blank,
    planned=planned,
  )
  return Pipeline(plan)


def make(folder: pathlib.Path) -> pathlib.Path:
  """Writes media, manifest and tokenizer."""
  clips.manifest(folder / "manifest.json", records(folder))
  settings(folder)
  return folder
