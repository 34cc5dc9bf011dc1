# SPDX-License-Identifier: Apache-2.0
"""Labels by rules and by served models: retries, failures, the cache."""

import contextlib
import http.server
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from data_pipelines.synthesis.labels.cache import (
  AnswerCache,
  CachedLabels,
  LabelModel,
  parse_labels,
)
from data_pipelines.synthesis.labels.endpoint import LabelEndpoint
from data_pipelines.synthesis.labels.local import in_batches
from data_pipelines.synthesis.labels.rules import event_label, place_label, rule_labels

KEY = "secret-key-1234"
TEXTS = ["A man chops red onions.", "A woman boils the pasta.", "They drain the pasta."]


class LabelServer(http.server.ThreadingHTTPServer):
  """Answers completions with the first three words of a description, after scripted failures."""

  def __init__(self, failures=()):
    super().__init__(("127.0.0.1", 0), LabelHandler)
    self.failures = list(failures)
    self.requests = []
    self.delay = 0.0
    self.refused = ()

  @property
  def url(self):
    return f"http://127.0.0.1:{self.server_address[1]}/v1"


class LabelHandler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def do_POST(self):
    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    self.server.requests.append((time.monotonic(), self.path, dict(self.headers), body))
    time.sleep(self.server.delay)
    for name in self.server.refused:
      if name in body:
        self.reply(400, f"Unsupported parameter: '{name}'.".encode())
        return
    failure = self.server.failures.pop(0) if self.server.failures else None
    if isinstance(failure, int):
      self.reply(failure, b"{}", {"Retry-After": "0.3"} if failure == 429 else {})
    elif isinstance(failure, bytes):
      self.reply(200, failure)
    elif failure is not None:
      time.sleep(failure.pop())  # A slow answer.
      self.reply(200, b"{}")
    else:
      text = body["messages"][0]["content"].rpartition("Description: ")[2]
      words = re.findall(r"\w+", text)[1:4]
      self.reply(200, completion(json.dumps(dict(labels=[" ".join(words)]))))

  def reply(self, status, body, headers=()):
    self.send_response(status)
    self.send_header("Content-Length", str(len(body)))
    for name, value in dict(headers).items():
      self.send_header(name, value)
    self.end_headers()
    with contextlib.suppress(OSError):
      self.wfile.write(body)

  def log_message(self, *args):
    pass


def completion(text, reason="stop"):
  choice = dict(message=dict(content=text), finish_reason=reason)
  return json.dumps(dict(choices=[choice])).encode()


@contextlib.contextmanager
def serving(failures=()):
  server = LabelServer(failures)
  thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def endpoint(server, **settings):
  return LabelEndpoint(server.url, "toy", KEY, first_wait=0.01, **settings)


def labels_of(server, tmp_path, texts=TEXTS, **settings):
  cache = AnswerCache(tmp_path / "cache.sqlite")
  model = LabelModel("openai", "toy", endpoint(server, **settings).ask_all)
  labeller = CachedLabels(model, cache)
  try:
    return labeller(texts, "event"), labeller
  finally:
    cache.commit_and_close()


EXPECTED = [("man chops red",), ("woman boils the",), ("drain the pasta",)]


def test_labels_of_a_server(tmp_path):
  with serving() as server:
    labels, labeller = labels_of(server, tmp_path)
  assert labels == EXPECTED
  assert (labeller.asked, labeller.fallbacks) == (3, 0)


def test_the_request_is_one_of_chat_completions(tmp_path):
  with serving() as server:
    labels_of(server, tmp_path, TEXTS[:1])
    _, path, headers, body = server.requests[0]
  assert path == "/v1/chat/completions"
  assert headers["Authorization"] == f"Bearer {KEY}"
  assert (body["model"], body["temperature"]) == ("toy", 0)
  assert body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("failure", [500, 503, 408, 409, b"{broken", b'{"choices": []}'])
def test_a_passing_failure_is_tried_again(tmp_path, failure):
  with serving([failure, failure]) as server:
    labels, _ = labels_of(server, tmp_path, TEXTS[:1])
    assert len(server.requests) == 3
  assert labels == EXPECTED[:1]


def test_retry_after_is_waited_for(tmp_path):
  with serving([429]) as server:
    labels, _ = labels_of(server, tmp_path, TEXTS[:1])
    times = [request[0] for request in server.requests]
  assert labels == EXPECTED[:1]
  assert times[1] - times[0] >= 0.3


def test_a_slow_answer_is_tried_again(tmp_path):
  with serving([[0.5]]) as server:
    labels, _ = labels_of(server, tmp_path, TEXTS[:1], timeout=0.1)
  assert labels == EXPECTED[:1]


def test_a_server_that_fails_for_good_ends_the_run(tmp_path):
  with serving([500] * 6) as server, pytest.raises(ValueError, match=r"6 tries.*HTTP 500"):
    labels_of(server, tmp_path, TEXTS[:1])


@pytest.mark.parametrize(("status", "words"), [(401, "--key-env"), (404, "--url, --model")])
def test_a_wrong_key_or_address_ends_the_run_at_once(tmp_path, status, words):
  with serving([status]) as server:
    with pytest.raises(ValueError, match=words) as caught:
      labels_of(server, tmp_path, TEXTS[:1])
    assert len(server.requests) == 1
  assert KEY not in str(caught.value)


def test_a_refused_text_gets_its_label_by_rules_and_is_not_asked_again(tmp_path):
  with serving([400]) as server:
    labels, labeller = labels_of(server, tmp_path, TEXTS[:1])
    again, _ = labels_of(server, tmp_path, TEXTS[:1])
    assert len(server.requests) == 1
  assert labels == again == rule_labels(TEXTS[:1], "event")
  assert labeller.fallbacks == 1


def test_a_server_that_refuses_every_text_ends_the_run(tmp_path):
  texts = [f"A man chops {number} onions." for number in range(40)]
  with serving([400] * 40) as server:
    with pytest.raises(ValueError, match=r"refuses every text.*HTTP 400"):
      labels_of(server, tmp_path, texts)
    server.failures = []
    labels, _ = labels_of(server, tmp_path, texts)
  assert labels[0] == ("man chops 0",)  # No refusal was stored.


def test_an_answer_that_was_cut_off_is_not_used(tmp_path):
  with serving([completion('{"labels": ["man cho', "length")]) as server:
    labels, labeller = labels_of(server, tmp_path, TEXTS[:1])
  assert labels == rule_labels(TEXTS[:1], "event")
  assert labeller.fallbacks == 1


def test_a_setting_that_the_model_refuses_is_left_out(tmp_path):
  with serving() as server:
    server.refused = ("max_tokens", "response_format")
    labels, _ = labels_of(server, tmp_path)
    _, _, _, body = server.requests[-1]
  assert labels == EXPECTED
  assert sorted(body) == ["max_completion_tokens", "messages", "model", "seed", "temperature"]


def test_what_is_in_the_cache_is_not_asked(tmp_path):
  with serving() as server:
    first, labeller = labels_of(server, tmp_path)
    asked = len(server.requests)
    second, other = labels_of(server, tmp_path)
    assert len(server.requests) == asked
  assert first == second
  assert labeller.answers_digest() == other.answers_digest()


def test_the_digest_is_of_the_answers_that_were_used(tmp_path):
  with serving() as server:
    _, labeller = labels_of(server, tmp_path, TEXTS[:1])
    labels_of(server, tmp_path)
    _, again = labels_of(server, tmp_path, TEXTS[:1])
  assert labeller.answers_digest() == again.answers_digest()


def test_cache_only_names_what_is_missing(tmp_path):
  with serving() as server:
    labels_of(server, tmp_path, TEXTS[:2])
  cache = AnswerCache(tmp_path / "cache.sqlite")
  labeller = CachedLabels(LabelModel("openai", "toy", None), cache)
  assert labeller(TEXTS[:2], "event") == EXPECTED[:2]
  with pytest.raises(ValueError, match=r"--cache-only: 1 texts.*They drain"):
    labeller(TEXTS, "event")
  cache.commit_and_close()


def test_answers_before_a_failure_are_kept(tmp_path):
  with serving([None, None] + [500] * 100) as server:
    with pytest.raises(ValueError, match="asks only what is left"):
      labels_of(server, tmp_path)
    asked = len(server.requests)
    server.failures = []
    labels, _ = labels_of(server, tmp_path)
    assert len(server.requests) - asked < len(TEXTS)
  assert labels == EXPECTED


def test_the_key_is_in_no_file_and_no_repr(tmp_path):
  with serving() as server:
    labels_of(server, tmp_path)
    assert KEY not in repr(endpoint(server))
  for path in tmp_path.iterdir():
    assert KEY.encode() not in path.read_bytes()


def test_a_killed_run_goes_on_with_its_cache(tmp_path):
  texts = [f"A man chops {number} onions." for number in range(400)]
  program = f"""
import sys
from data_pipelines.synthesis.labels.cache import *
from data_pipelines.synthesis.labels.endpoint import LabelEndpoint
texts = [f"A man chops {{number}} onions." for number in range(400)]
model = LabelModel("openai", "toy", LabelEndpoint(sys.argv[1], "toy").ask_all)
CachedLabels(model, AnswerCache({str(tmp_path / "cache.sqlite")!r}))(texts, "event")
"""
  with serving() as server:
    server.delay = 0.02
    process = subprocess.Popen([sys.executable, "-c", program, server.url])
    while len(server.requests) < 250:
      time.sleep(0.01)
    process.kill()
    process.wait()
    server.delay = 0.0
    before = len(server.requests)
    labels, _ = labels_of(server, tmp_path, texts)
    asked = len(server.requests) - before
  assert asked <= 300  # At least COMMIT_EVERY answers were safe.
  assert labels[0] == ("man chops 0",)


def test_a_file_that_is_no_cache_is_refused(tmp_path):
  (tmp_path / "cache.sqlite").write_text("no database, but a text of some length " * 50)
  with pytest.raises(ValueError, match="Name another --cache"):
    AnswerCache(tmp_path / "cache.sqlite")


def test_two_runs_share_a_cache(tmp_path):
  first, second = (AnswerCache(tmp_path / "cache.sqlite") for _ in range(2))
  first.put_answer("a", "1")
  second.put_answer("b", "2")
  second.commit_and_close()  # The first has not committed: its model takes a long time.
  assert first.answer("a") == "1" and first.answer("b") == "2"
  first.commit_and_close()
  assert AnswerCache(tmp_path / "cache.sqlite").answer("a") == "1"


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
  cache = AnswerCache(tmp_path / "cache.sqlite")
  with sqlite3.connect(tmp_path / "cache.sqlite") as other:
    other.execute("DROP TABLE answers")
  cache.put_answer("a", "1")
  with pytest.raises(ValueError, match=r"no such table.*Name another --cache"):
    cache.commit_and_close()


def test_another_model_has_other_answers():
  keys = {LabelModel("openai", name, None).key("event", "text") for name in ("a", "b")}
  keys.add(LabelModel("local", "a", None).key("event", "text"))
  keys.add(LabelModel("local", "a", None).key("place", "text"))
  assert len(keys) == 4


def test_a_local_model_answers_in_batches(tmp_path):
  batches = []

  def answer(prompts):
    batches.append(len(prompts))
    return ['Sure: {"labels": ["man chops onions"]} .' for _ in prompts]

  texts = [f"A man chops {number} onions" for number in range(20)]
  cache = AnswerCache(tmp_path / "cache.sqlite")
  labels = CachedLabels(LabelModel("local", "toy", in_batches(answer)), cache)(texts, "event")
  cache.commit_and_close()
  assert labels == [("man chops onions",)] * 20
  assert batches == [16, 4]


@pytest.mark.parametrize(
  "answer",
  [
    "no json",
    '["a b"]',
    '{"labels": []}',
    '{"labels": ["one"]}',
    '{"labels": ["a dog runs"]}',  # Nothing of the text.
    '{"labels": [7]}',
    '{"labels": ["red onions", "red onions", "x y", "x y", "x y", "x y", "x y"]}',
  ],
)
def test_an_answer_of_another_form_is_not_used(answer):
  assert parse_labels(answer, "A man chops red onions") is None


@pytest.mark.parametrize(
  ("text", "label"),
  [
    ("The video shows a man chopping onions, while a dog sleeps.", "a man chopping onions"),
    ("In the video, the scene shows a red car.", "a red car"),
    ("The main subject is a young woman in a red coat.", "a young woman in a red coat"),
    ("and then left. The main objects are two dogs.", "two dogs"),
    ("#C C chops a tomato", "the camera wearer chops a tomato"),
    ("#O A man X walks", "another person walks"),
    ("#O B hands a cup to C", "another person hands a cup to the camera wearer"),
    ("#unsure", ""),
    ("NASA launches a rocket.", "NASA launches a rocket"),
    ("Make mashed potatoes.", "make mashed potatoes"),
    ("Barack Obama waves to the crowd", "Barack Obama waves to the crowd"),
    ("one two three four five six seven eight nine ten eleven twelve thirteen", None),
    ("", ""),
  ],
)
def test_event_labels_by_rules(text, label):
  found = event_label(text)
  if label is None:
    assert len(found.split()) == 12
  else:
    assert found == label


def test_a_place_keeps_its_article():
  text = "The background is a small kitchen with white walls. It is bright."
  assert place_label(text) == "a small kitchen"


def test_the_cache_holds_keys_and_answers_alone(tmp_path):
  with serving() as server:
    labels_of(server, tmp_path, TEXTS[:1])
  database = sqlite3.connect(tmp_path / "cache.sqlite")
  rows = database.execute("SELECT * FROM answers").fetchall()
  database.close()
  assert len(rows) == 1
  assert re.fullmatch("[0-9a-f]{64}", rows[0][0])
