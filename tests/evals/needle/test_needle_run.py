# SPDX-License-Identifier: Apache-2.0
"""Whole needle tests on tiny checkpoints: costs, files, controls, restarts, bad input."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.media.frames import read_frames
from data_pipelines.synthesis import needle_questions
from filax.cli import evals_niah
from filax.evals import html_page
from filax.evals.needle.run import run_needles
from filax.evals.needle.setup import NeedleOptions
from filax.evals.needle.visuals import HaystackSource
from filax.infer import encode_long
from filax.testing import clips

pytestmark = pytest.mark.slow

SMALL = NeedleOptions(lengths=(24, 48), depths=(0.0, 0.5, 1.0), limit=2, progress=False)
CHAINS = NeedleOptions(multi_hop=True, lengths=(24, 48), limit=2, progress=False)


def changed(options, **changes):
  return dataclasses.replace(options, **changes)


@pytest.fixture(scope="module")
def small(vcf, tmp_path_factory):
  """(result, folder) of a single-hop test."""
  folder = tmp_path_factory.mktemp("small")
  return run_needles(vcf, SMALL, folder), folder


@pytest.fixture(scope="module")
def chains(fila, tmp_path_factory):
  """(result, folder) of a multi-hop test."""
  folder = tmp_path_factory.mktemp("chains")
  return run_needles(fila, CHAINS, folder), folder


def test_a_thousand_frames_are_encoded_and_read_once(fila):
  """1,333 tokens: all of them for depth 0, half for 0.5, few for 1."""
  result = run_needles(fila, changed(SMALL, lengths=(1000,), limit=1))
  work = result["work"]
  assert work["haystack_encodings"] == work["shared_prefills"] == 1
  assert work["encoded_frames"] == 1002  # Whole groups of 3.
  assert work["prefills"] == 3
  base, test, middle_of_control, grey = 1333, 1333 * 1.5, 1333 * 0.5, 1333
  questions = 6 * 128
  assert work["tokens_read"] < base + test + middle_of_control + grey + questions


def test_every_cell_is_asked(small):
  result, _ = small
  assert result["questions"] == result["total"] == 12
  assert result["finished"]
  assert {name: len(groups) for name, groups in result["by"].items()} == dict(frames=2, depth=3)


def test_tokens_of_a_frame_are_reported(small, chains):
  assert small[0]["settings"]["tokens_per_frame"] == 4
  assert chains[0]["settings"]["tokens_per_frame"] == pytest.approx(4 / 3)


def test_choosing_selectors_show_all_frames(chains):
  assert chains[0]["selector"] == "uniform"


def test_the_published_files_are_written(small):
  result, folder = small
  table = json.loads((folder / "all_accuracies.json").read_text())
  assert [set(entry) for entry in table] == [{"Num. Frame", "Frame Depth", "Score"}] * 6
  average = (folder / "avg_accuracy.txt").read_text()
  assert average == f"Average Accuracy: {result['scores']['accuracy']}\n"
  figure = (folder / "heatmap.png").read_bytes()
  assert figure.startswith(b"\x89PNG")
  assert html_page.png_url(figure) in (folder / "page.html").read_text()


def test_the_result_on_disk_is_the_result(small):
  result, folder = small
  stored = json.loads((folder / "result.json").read_text())
  assert stored == json.loads(json.dumps({k: v for k, v in result.items() if k != "answers"}))


def test_drawn_needles_are_not_comparable(small):
  assert not small[0]["comparable"]
  assert any("drawn" in reason for reason in small[0]["reasons"])


def test_controls_stand_beside_the_score(small, chains):
  for result, _ in (small, chains):
    assert set(result["controls"]) == {"grey", "removed", "other"}
    assert all(control["questions"] for control in result["controls"].values())


def test_controls_of_a_random_model_are_near_chance(vcf):
  options = changed(SMALL, lengths=(24,), depths=(0.5,), limit=8)
  controls = run_needles(vcf, options)["controls"]
  assert [control["above_chance"] for control in controls.values()] == [False] * 3
  assert {control["chance"] for control in controls.values()} == {0.25}


def test_both_questions_of_a_chain_share_one_prefill(chains):
  result, _ = chains
  assert result["work"]["prefills"] == 4
  assert result["questions"] == 8
  assert result["chance"] == 0.0625


def test_multi_hop_has_the_papers_names_and_lines(chains):
  result, folder = chains
  assert {"CAP", "QA", "Caption Score", "QA Score", "Score"} <= set(result["scores"])
  table = json.loads((folder / "all_accuracies.json").read_text())
  assert [entry["Total question pair"] for entry in table] == [2, 2]
  assert (folder / "lines.png").exists()


def test_a_stopped_run_continues(vcf, small, tmp_path):
  result, folder = small
  lines = (folder / "answers.jsonl").read_bytes().splitlines(keepends=True)
  (tmp_path / "answers.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:20])
  for name in ("settings.json", "controls.jsonl"):
    (tmp_path / name).write_bytes((folder / name).read_bytes())
  continued = run_needles(vcf, SMALL, tmp_path)
  assert continued["work"]["prefills"] == 12 - 5
  assert "control_prefills" not in continued["work"]
  assert continued["scores"] == result["scores"]
  assert (tmp_path / "answers.jsonl").read_bytes() == (folder / "answers.jsonl").read_bytes()


def test_ids_of_answers_are_unique(small, chains):
  for result, _ in (small, chains):
    ids = [row["id"] for row in result["answers"]]
    assert len(set(ids)) == len(ids)


def test_controls_are_no_answers(small):
  result, folder = small
  lines = (folder / "answers.jsonl").read_text().splitlines()
  assert len(lines) == result["questions"]
  assert not any(json.loads(line)["control"] for line in lines)


def test_a_finished_run_asks_nothing(vcf, small):
  result, folder = small
  again = run_needles(vcf, SMALL, folder)
  assert again["work"] == result["work"]
  assert again["answers"] == result["answers"]


def test_another_test_in_the_same_folder_is_refused(vcf, small):
  with pytest.raises(ValueError, match=r"another test: depths was \[0.0, 0.5, 1.0\]"):
    run_needles(vcf, changed(SMALL, depths=(0.5,)), small[1])


def test_visual_dropout_reads_every_context(vcf):
  session = vcf.adjusted(dropout="1:uniform:0.5")
  result = run_needles(session, changed(SMALL, limit=1, lengths=(24,)))
  work = result["work"]
  assert work["tokens_read"] == work["tokens_without_sharing"]
  assert "Published models ran without visual dropout." in result["reasons"]


def test_too_many_frames_say_how_many_fit(vcf):
  with pytest.raises(ValueError, match=r"reads 32768 positions: 81\d\d frames fit.*--yarn 2"):
    run_needles(vcf, changed(SMALL, lengths=(10_000,)))


def test_yarn_makes_room(vcf):
  with pytest.raises(ValueError, match=r"20000 frames .* --yarn 3"):
    run_needles(vcf.adjusted(yarn=2.0), changed(SMALL, lengths=(20_000,)))


def test_an_answer_that_the_tokenizer_cannot_write_is_named(vcf, tmp_path):
  record = dict(image="a.png", question="Find it.", answer="\ud800")
  (tmp_path / "needles.json").write_text(json.dumps([record]))
  clips.write_picture(tmp_path / "a.png")
  with pytest.raises(ValueError, match="writes the answer"):
    run_needles(vcf, changed(SMALL, needles=str(tmp_path / "needles.json")))


def test_depths_of_chains_are_refused(vcf):
  with pytest.raises(ValueError, match="no meaning"):
    run_needles(vcf, changed(CHAINS, depths=(0.5,)))


def test_missing_pictures_are_listed_and_the_rest_is_asked(vcf, tmp_path):
  question = "Find the frame of bars. which\nOptions: (A) x\n(B) y\nBest option: ("
  records = [dict(image=f"{name}.png", question=question, answer="A") for name in "ab"]
  (tmp_path / "needles.json").write_text(json.dumps(records))
  clips.write_picture(tmp_path / "a.png")
  options = changed(SMALL, needles=str(tmp_path / "needles.json"), lengths=(24,), limit=None)
  result = run_needles(vcf, options)
  assert result["questions"] == 3
  assert "b.png is missing" in result["bad_media"]["b.png"]
  assert result["skipped"] == result["missing"] == 1
  assert result["controls"]["other"]["reason"] == "There is no other needle."


def test_no_picture_at_all_is_an_error(vcf, tmp_path):
  record = dict(image="a.png", question="Which?\nOptions: (A) x\n(B) y\n", answer="A")
  (tmp_path / "needles.json").write_text(json.dumps([record]))
  with pytest.raises(ValueError, match=r"a\.png is missing"):
    run_needles(vcf, changed(SMALL, needles=str(tmp_path)))


def test_needles_from_files_give_the_answers_of_drawn_ones(fila, chains, tmp_path):
  records = needle_questions.chain_records(3)
  side = fila.model.encoder.size
  path = needle_questions.write_records(tmp_path, "chains.json", records, side)
  result = run_needles(fila, changed(CHAINS, needles=path, lengths=(24,)))
  answers = {row["id"]: row["answer"] for row in result["answers"] if not row["control"]}
  drawn = {row["id"]: row["answer"] for row in chains[0]["answers"]}
  assert answers.items() <= drawn.items()


def test_chains_need_their_option(vcf, tmp_path):
  record = dict(image="a.png", question="Which?", answer="A")
  (tmp_path / "needles.json").write_text(json.dumps([record]))
  with pytest.raises(ValueError, match="Leave out --multi-hop"):
    run_needles(vcf, changed(CHAINS, needles=str(tmp_path)))


def test_a_short_video_repeats(vcf, tmp_path):
  video = clips.write_video(tmp_path / "a.mp4", 100, 10)
  options = changed(SMALL, haystack=video, lengths=(24,), encode_cache=str(tmp_path / "cache"))
  haystack = run_needles(vcf, options)["haystack"]
  assert haystack["frames"] == 24
  assert haystack["different_frames"] == 8
  assert list((tmp_path / "cache").iterdir())


def test_an_unreadable_haystack_is_one_sentence(vcf, tmp_path):
  video = clips.write_truncated(tmp_path / "a.mp4")
  with pytest.raises(ValueError, match="is truncated"):
    run_needles(vcf, changed(SMALL, haystack=video, lengths=(24,)))


def test_a_missing_haystack_is_one_sentence(vcf, tmp_path):
  with pytest.raises(ValueError, match="does not exist"):
    run_needles(vcf, changed(SMALL, haystack=str(tmp_path / "no.mp4")))


def test_the_command_prints_scores_and_controls(fila, tmp_path, capsys):
  words = ["--checkpoint", fila.processor.source, "--protocol", "longva"]
  words += ["--lengths", "24", "--depths", "0,1", "--limit", "1", "--out", str(tmp_path)]
  evals_niah.main(words)
  printed = capsys.readouterr().out
  assert "1.333 tokens a frame" in printed
  assert "needle removed: " in printed
  evals_niah.main([*words, "--json"])
  result = json.loads(capsys.readouterr().out)
  assert result["protocol"] == "longva" and result["finished"]


@pytest.mark.parametrize("words", [["--depths", "2"], ["--lengths", "0"], ["--protocol", "x"]])
def test_bad_options_are_one_sentence(fila, words):
  with pytest.raises(ValueError, match=r"2|0|longva"):
    evals_niah.main(["--checkpoint", fila.processor.source, *words])


def test_a_video_is_read_at_every_round_fps_th_frame(vcf, tmp_path, monkeypatch):
  video = clips.write_video(tmp_path / "a.mp4", 100, 10)
  times = []

  def encode_times(loaded, timeline, seconds, folder=""):
    times.extend(seconds)
    return np.zeros((len(seconds) * 4 + 1, 32), np.float32), seconds

  monkeypatch.setattr(encode_long, "encode_times", encode_times)
  _, count = HaystackSource(video).encode_haystack(vcf, 8)
  frames, _ = read_frames(video, times, 64)
  assert clips.read_numbers(frames) == [0, 10, 20, 30, 40, 50, 60, 70]
  assert count == 8
