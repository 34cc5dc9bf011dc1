# SPDX-License-Identifier: Apache-2.0
"""`filax data view`: the page shows what training takes, and why records are left out."""

import re

import numpy as np
import pytest

from data_pipelines.tools import view
from data_pipelines.tools.view_tokens import token_pieces, token_texts
from filax.cli import main as command
from filax.studies.data_page import data_page
from filax.testing import clips, corpora, manifests

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Samples of all kinds, and records that are bad, unreadable, too long, and hostile."""
  folder = tmp_path_factory.mktemp("corpus")
  records = [
    *corpora.write_media(folder),
    {"id": "no conversations"},
    manifests.question_record("<image>\nGone?", video="gone.mp4"),
    manifests.question_record(f"<image>\n{EVIL} Où? 日本語 🦜", "Là.", video="a.mp4", id=EVIL),
    manifests.question_record("<image>\nLong?", "word " * 900, video="a.mp4"),
    manifests.question_record("<image>\nAfter the end?", video="a.mp4", start=90),
  ]
  manifests.write_manifest(folder / "manifest.json", records)
  return folder


@pytest.fixture(scope="module")
def shown(folder):
  plan = corpora.open_pipeline(folder, too_long="skip", time_prompt="fila").plan
  return view.view_plan(plan, samples=99, rows=2)


def test_all_tokens_are_shown_once(shown):
  for sample in shown.samples:
    assert sum(piece.size for piece in sample.pieces) == sample.tokens
    learned = sum(piece.size for piece in sample.pieces if piece.learned)
    assert learned == sample.learned


def test_pieces_say_the_prompt_as_it_is_made(shown):
  first = shown.samples[0]
  text = "".join("".join(piece.texts) or "[visual]" for piece in first.pieces)
  assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n[visual]\n")
  assert "This video samples 2 frames of a 4.00-second video at " in text
  assert text.endswith("<|im_start|>assistant\nA square moves.<|im_end|>\n")


def test_labels_are_those_of_the_encoder(shown):
  plan = shown.plan
  sample = plan.samples[0]
  encoded = plan.composer.encode_text(sample, plan.composer.timeline_layouts(sample, 0, 0))
  learned = [
    piece.learned for piece in token_pieces(encoded, plan.tokenizer) for _ in "x" * piece.size
  ]
  assert np.array_equal(learned, encoded.labels)


def test_letters_of_several_tokens_stay_whole(shown):
  tokenizer = shown.plan.tokenizer
  text = "Où est 日本語 🦜!"
  pieces = list(token_texts(tokenizer, tokenizer.encode(text)))
  assert "".join(pieces) == text


def test_frames_are_those_of_training(shown):
  first = shown.samples[0]
  assert len(first.pictures) == len(first.times) == 6
  assert first.pictures[0].caption == "0.00 s · group 1"
  assert first.pictures[3].caption.endswith("group 2")
  assert first.pictures[0].pixels.shape == (32, 32, 3) and first.pictures[0].pixels.std() > 1


def test_every_reason_is_counted(shown):
  counts = {reason.reason.split(":")[0]: reason.count for reason in shown.left_out}
  assert counts == {"Bad records": 1, "Too large for the rows": 1, "Masked": 1}
  problems = [sample.problem for sample in shown.samples if sample.problem]
  assert len(problems) == 3  # Gone, too long, and beyond the end of its medium.
  assert any("gone.mp4: does not exist" in problem for problem in problems)
  assert any("Too large: it needs" in problem for problem in problems)


def test_rows_hold_the_samples_of_the_plan(shown):
  row = shown.rows[0]
  assert len(row.segments) == len(shown.plan.row(0).samples)
  assert sum(segment.tokens for segment in row.segments) <= row.shape.length


def test_the_page_escapes_text_and_loads_nothing(shown):
  page = data_page(shown, EVIL, EVIL)
  assert "<script" not in page.lower() and "&lt;script&gt;" in page
  assert re.search(r'(?:src|href)="(?!data:image/jpeg;base64,)', page) is None
  assert page.count("data:image/jpeg;base64,") == sum(len(s.pictures) for s in shown.samples)


def run(capsys, *argv):
  code = command.main(["data", "view", *map(str, argv)])
  return code, *capsys.readouterr()


def options(folder):
  return (
    folder / "manifest.json",
    "--config=configs/fila_stage4.py:debug",
    f"--config.data.tokenizer={folder}/tokenizer.json",
  )


def test_the_command_writes_a_page_and_replaces_none(folder, tmp_path, capsys):
  page = tmp_path / "deep" / "page.html"
  code, out, _ = run(capsys, *options(folder), "--out", page, "--samples", 3, "--rows", 1)
  assert code == 0 and "3 of 13 samples and 1 of" in out
  assert page.read_text().startswith("<!doctype html>")
  code, _, err = run(capsys, *options(folder), "--out", page)
  assert code == 2 and "--force" in err
  assert run(capsys, *options(folder), "--out", page, "--force", "--samples", 1)[0] == 0


def test_a_part_of_a_manifest(folder, tmp_path, capsys):
  page = tmp_path / "page.html"
  code, out, _ = run(capsys, *options(folder), "--out", page, "--take", "first:2")
  assert code == 0 and "2 of 2 samples" in out


def test_a_manifest_without_a_usable_medium_is_one_sentence(tmp_path, folder, capsys):
  clips.write_picture(tmp_path / "a.png")
  path = manifests.write_manifest(
    tmp_path / "m.json", [manifests.question_record("<image>", video="gone.mp4")]
  )
  code, _, err = run(capsys, path, *options(folder)[1:], "--out", tmp_path / "page.html")
  assert code == 2 and err.count("\n") == 1 and "1 of 1 media cannot be read" in err
