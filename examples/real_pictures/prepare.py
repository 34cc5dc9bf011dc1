# SPDX-License-Identifier: Apache-2.0
"""Writes what config.py trains on: a base of released parts, and sentences of pictures.

  python examples/real_pictures/prepare.py --packages PACKAGES --data DATA --out runs/real_pictures

OUT/base is a checkpoint with the parameters of EfficientNet-Lite0 and SmolLM2-135M; OUT/train.json
and OUT/held_out.json have different sentences of the same pictures.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
from typing import Any

import config
import efficientnet_lite
import jax
import jax.numpy as jnp

from data_pipelines.text import tokenizer_folder
from filax import released
from filax.checkpoint import store

PHOTOS = "images/photos"
CLIPS = "videos/intel_iot"  # Short ones: somebody signs the word that is the file's name.
QUESTION = "<image>\nDescribe it in one sentence."
SENTENCES = 3  # Of a photograph's five, those that are trained on.
SIGNED = ("A person signs the word {}.", "Somebody shows the sign for {}.")
HELD_OUT = "This is the sign for the word {}."


def write_base(packages: pathlib.Path, out: pathlib.Path) -> None:
  """Joins the released parts in one checkpoint, with the llm's tokenizer."""
  llm = pathlib.Path(released.find_checkpoint(packages / "smollm2.gguf"))
  params, _, _ = store.restore_params(llm)
  encoder = efficientnet_lite.read_parameters(packages / "efficientnet_lite0.pth")
  params["encoder"] = jax.tree.map(jnp.asarray, encoder)
  store.save_params(out, params, config.get_config().to_dict())
  tokenizer = tokenizer_folder.load_if_present(llm)
  assert tokenizer is not None  # `filax convert` has written it.
  tokenizer.save(out)


def media_record(kind: str, path: pathlib.Path, sentence: str) -> dict[str, Any]:
  """A conversation of one question. kind: image or video."""
  turns = [dict(value=QUESTION) | {"from": "human"}, dict(value=sentence) | {"from": "gpt"}]
  return {kind: str(path), "conversations": turns}


def sentence_records(data: pathlib.Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """(trained, held out) records of all photographs and clips."""
  trained = []
  held_out = []
  for photo in json.loads((data / PHOTOS / "photos.json").read_text()):
    path = data / PHOTOS / photo["file"]
    for number, sentence in enumerate(photo["captions"]):
      records = trained if number < SENTENCES else held_out
      records.append(media_record("image", path, sentence))
  for path in sorted((data / CLIPS).glob("*.mkv")):
    for sentence in SIGNED:
      trained.append(media_record("video", path, sentence.format(path.stem)))
    held_out.append(media_record("video", path, HELD_OUT.format(path.stem)))
  return trained, held_out


def evenly_mixed(records: Sequence[dict[str, Any]], stride: int = 7) -> list[dict[str, Any]]:
  """The records in an order whose beginning shows many pictures."""
  mixed = []
  for first in range(stride):
    mixed += records[first::stride]
  return mixed


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  add = parser.add_argument
  add("--packages", type=pathlib.Path, required=True, help="folder of tests/fetch_packages.py")
  add("--data", type=pathlib.Path, required=True, help="folder of the photographs and clips")
  add("--out", type=pathlib.Path, default=pathlib.Path("runs/real_pictures"))
  options = parser.parse_args()
  options.out.mkdir(parents=True, exist_ok=True)
  trained, held_out = sentence_records(options.data.resolve())
  (options.out / "train.json").write_text(json.dumps(trained, indent=1))
  (options.out / "held_out.json").write_text(json.dumps(evenly_mixed(held_out), indent=1))
  write_base(options.packages, options.out / "base")
  print(f"{options.out}: a base, {len(trained)} sentences to train on, {len(held_out)} held out.")


if __name__ == "__main__":
  main()
