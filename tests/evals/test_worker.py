# SPDX-License-Identifier: Apache-2.0
"""filax evals worker: lines of JSON in, a line of JSON for each request out."""

import io
import json
import os
import subprocess
import sys

from compile_flags import QUICK
from PIL import Image
import pytest

import filax
from filax.evals import worker as worker_lib
from filax.infer import encode
from filax.testing import clips, tiny_checkpoint

pytestmark = pytest.mark.slow

QUESTION = "What shape is on red?"
READER = (worker_lib.MediaReader, "read_ahead")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with a run, two videos and a picture."""
  folder = tmp_path_factory.mktemp("worker")
  tiny_checkpoint.write_checkpoint(folder / "run")
  clips.write_video(folder / "a.mp4", 40)
  clips.write_video(folder / "b.mp4", 30)
  Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "p.png")
  return folder


@pytest.fixture(scope="module")
def session(folder):
  return filax.load(folder / "run")


@pytest.fixture(scope="module")
def worker(session):
  return worker_lib.AnswerWorker(session, batch=2, threads=1)


def replies(worker, *requests) -> list[dict]:
  return list(worker.answer_line(json.dumps(dict(requests=requests))))


def reply(worker, **request) -> dict:
  (line,) = worker.answer_line(json.dumps(request))
  return line


def test_the_answer_is_that_of_a_session(worker, session, folder):
  video = str(folder / "a.mp4")
  given = reply(worker, id=7, prompt=QUESTION, media=[video])
  assert given == dict(id=7, answer=session.ask(video, QUESTION))


def test_a_command_speaks_only_json(folder, session):
  video = str(folder / "a.mp4")
  lines = [
    json.dumps(dict(id="x", prompt=QUESTION, video=video)),
    "no json",
    "",
    json.dumps(dict(requests=[dict(id=1, prompt=QUESTION, media=["missing.mp4"])])),
  ]
  code = (
    "import sys; from filax.cli.main import main; import filax.evals.worker as worker\n"
    "serve = worker.serve_lines\n"
    "worker.serve_lines = lambda *arguments: (print('noise of others'), serve(*arguments))\n"
    f"sys.exit(main(['evals', 'worker', '--checkpoint', {str(folder / 'run')!r}]))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    input="\n".join(lines),
    capture_output=True,
    text=True,
    check=True,
    env=os.environ | dict(XLA_FLAGS=QUICK),
  )
  assert "noise of others" in done.stderr
  hello, first, second, third = map(json.loads, done.stdout.splitlines())
  assert hello["schema"] == worker_lib.SCHEMA and hello["frames"] == 24
  assert first == dict(id="x", answer=session.ask(video, QUESTION))
  assert second["id"] is None and "not JSON" in second["error"]
  assert third["id"] == 1 and "missing.mp4" in third["error"]


def test_a_video_is_encoded_once_for_its_questions(worker, folder, monkeypatch):
  encoded = []
  start_video = encode.start_video

  def note(loaded, video):
    encoded.append(video.path)
    return start_video(loaded, video)

  monkeypatch.setattr(encode, "start_video", note)
  a, b = (str(folder / name) for name in ("a.mp4", "b.mp4"))
  requests = []
  for number, video in enumerate((a, b, a, b, a)):
    requests.append(dict(id=number, prompt=f"{QUESTION} {number}", media=[video]))
  answers = replies(worker, *requests)
  assert sorted(row["id"] for row in answers) == [0, 1, 2, 3, 4]
  assert sorted(encoded) == [a, b]


def test_a_batch_answers_as_single_requests(worker, folder):
  video = str(folder / "a.mp4")
  requests = [dict(id=n, prompt=f"{QUESTION} {n}", media=[video]) for n in range(3)]
  together = {row["id"]: row["answer"] for row in replies(worker, *requests)}
  alone = {request["id"]: reply(worker, **request)["answer"] for request in requests}
  assert together == alone


def test_bad_requests_leave_the_others_alone(worker, folder):
  video = str(folder / "a.mp4")
  (folder / "empty.mp4").write_bytes(b"")
  requests = [
    dict(id=0, prompt=QUESTION, media=[str(folder / "empty.mp4")]),
    dict(id=1, prompt=QUESTION, media=[video]),
    dict(id=2, prompt="word " * 9000, media=[video]),
    3,
  ]
  rows = {row["id"]: row for row in replies(worker, *requests)}
  assert "is empty" in rows[0]["error"] and "answer" in rows[1]
  assert "exceed" in rows[2]["error"] or "do not fit" in rows[2]["error"]
  assert "A request is an object, not int" in rows[None]["error"]


def test_an_unexpected_error_is_a_reply(worker, folder, monkeypatch, capsys):
  def fail(*_):
    raise RuntimeError("out of memory")

  monkeypatch.setattr(encode, "start_video", fail)
  row = reply(worker, id=1, prompt=QUESTION, media=[str(folder / "a.mp4")])
  assert row == dict(id=1, error="out of memory")
  assert "RuntimeError" in capsys.readouterr().err


def test_a_reader_that_fails_is_a_reply_to_all(worker, folder, monkeypatch):
  def fail(*_, **__):
    raise RuntimeError("no threads")
    yield

  monkeypatch.setattr(*READER, fail)
  video = str(folder / "a.mp4")
  rows = replies(worker, dict(id=1, prompt=QUESTION, media=[video]), dict(id=2, prompt=QUESTION))
  assert rows == [dict(id=1, error="no threads"), dict(id=2, error="no threads")]


def test_control_tokens_in_text_are_words(worker, session, folder, monkeypatch):
  prompts = []
  encode_prompt = worker._encode_prompt

  def note(request, media):
    prompt = encode_prompt(request, media)
    prompts.append(prompt.tokens)
    return prompt

  monkeypatch.setattr(worker, "_encode_prompt", note)
  reply(worker, id=1, prompt="a <|im_end|> b")
  reply(worker, id=1, prompt="a b")
  stop = set(session.processor.stop)
  counts = [sum(token in stop for token in tokens) for tokens in prompts]
  assert counts[0] == counts[1]


def test_an_answer_ends_before_until(worker, folder):
  video = str(folder / "a.mp4")
  whole = reply(worker, id=1, prompt=QUESTION, media=[video], max_new_tokens=6)["answer"]
  end = whole[len(whole) // 2 :].strip()[:2]
  cut = reply(worker, id=1, prompt=QUESTION, media=[video], max_new_tokens=6, until=["zzz", end])
  assert cut["answer"] == whole[: whole.index(end)].strip() != whole


def test_a_part_of_a_video_and_a_picture_are_shown(worker, folder):
  part = dict(path=str(folder / "a.mp4"), start=1.0, end=2.5)
  media = [part, str(folder / "p.png")]
  row = reply(worker, id=1, prompt=["First ", {"media": 0}, " then ", {"media": 1}], media=media)
  assert "answer" in row, row


def test_placeholders_show_media_where_they_stand(folder):
  media = [str(folder / "p.png"), str(folder / "a.mp4")]
  parse = worker_lib.parse_request
  assert parse(dict(prompt="A <image>\nB<video>?", media=media)).turn.parts == (
    ("A ", 0, "\nB", 1, "?")
  )
  assert parse(dict(prompt="Q", media=media)).turn.parts == (0, "\n", 1, "\nQ")
  assert parse(dict(prompt="the word <image>")).turn.parts == ("the word <image>",)
  assert parse(dict(prompt="<image>", media=media[:1])).turn.parts == (0, "")


@pytest.mark.parametrize(
  ("request_fields", "sentence"),
  [
    (dict(), "prompt=None is neither a text"),
    (dict(prompt="a <image> <image>", media=["p.png"]), "has 2 of <image> and <video>, but"),
    (dict(prompt=["a", {"media": 1}], media=["p.png"]), "shows the media [1]"),
    (dict(prompt=[3]), "3 is not a part of a prompt"),
    (dict(prompt="a", media="p.png"), "is not a list"),
    (dict(prompt="a", media=["p.png"], video="p.png"), "media or video, not both"),
    (dict(prompt="a", media=[dict(start=1)]), "is not a medium"),
    (dict(prompt="a", media=[dict(path="p.png", stop=1)]), "no 'stop'; its keys are path"),
    (dict(prompt="a", media=[dict(path="p.png", start=-1)]), "start=-1 is not a time"),
    (dict(prompt="a", media=[dict(path="p.png", start=2, end=2)]), "from 2 to 2 s is empty"),
    (dict(prompt="a", max_new_tokens=0), "max_new_tokens=0 cannot be used"),
    (dict(prompt="a", temperature=-1), "temperature=-1 cannot be used"),
    (dict(prompt="a", temprature=1), "no 'temprature'; its keys are id"),
    (dict(prompt="a", until=[""]), "until=[''] cannot be used"),
  ],
)
def test_a_request_that_cannot_be_understood(request_fields, sentence, folder, monkeypatch):
  monkeypatch.chdir(folder)
  with pytest.raises(ValueError) as error:
    worker_lib.parse_request(request_fields)
  assert sentence in str(error.value)


def test_lines_end_the_worker(worker):
  output = io.StringIO()
  worker_lib.serve_lines(worker, [], output)
  assert json.loads(output.getvalue())["batch"] == 2
