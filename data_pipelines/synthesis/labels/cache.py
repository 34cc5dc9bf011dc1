# SPDX-License-Identifier: Apache-2.0
"""Answers of models, kept by content, and labels made from them.

The key is the sha256 of all that decides an answer. A served model does not repeat itself bit for
bit; the cache does: with it, the same inputs give the same labels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sqlite3
from typing import Any

from data_pipelines.synthesis.labels.rules import rule_labels
from data_pipelines.synthesis.longvid.event_texts import content_words
from filax import files

PROMPT_VERSION = 1
PROMPTS = {
  "event": (
    "Name what happens in the following description of a video clip, in the order in which it "
    'happens. Answer with JSON only, in the form {{"labels": ["…"]}}: one to six labels of two '
    "to twelve words each, in words of the description, without telling where in the video it is."
    "\n\nDescription: {text}"
  ),
  "place": (
    "Name the place that the following description of a background is about. Answer with JSON "
    'only, in the form {{"labels": ["…"]}}: one label of two to eight words, in words of the '
    "description.\n\nDescription: {text}"
  ),
}
MOST_TOKENS = 256
COMMIT_EVERY = 100
_WAIT_SECONDS = 60.0  # For another run that writes.
_MOST_LABELS = 6
_WORDS = range(2, 13)  # The number of words of a label.

AskAll = Callable[[Sequence[str]], Iterable[tuple[int, str | None]]]


class LabelError(ValueError):
  """A text that a model gives no answer for."""


class AnswerCache:
  """Answers by key in a SQLite file, which runs may share.

  A killed run loses at most the last COMMIT_EVERY. New answers wait in memory and are written
  together, so that the file is locked for moments and not for as long as a model takes.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = path
    self._waiting: dict[str, str] = {}
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with self._explained():
      files.make_file(path)
      self._database = sqlite3.connect(path, timeout=_WAIT_SECONDS)
      self._database.execute(
        "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)"
      )

  def answer(self, key: str) -> str | None:
    """The answer under a key."""
    if key in self._waiting:
      return self._waiting[key]
    with self._explained():
      row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]

  def put_answer(self, key: str, answer: str) -> None:
    """Keeps an answer."""
    self._waiting[key] = answer
    if len(self._waiting) >= COMMIT_EVERY:
      self.commit()

  def commit(self) -> None:
    """Makes all answers so far safe."""
    if not self._waiting:
      return
    with self._explained(), self._database:  # One transaction, undone by an error.
      self._database.executemany(
        "INSERT OR REPLACE INTO answers VALUES (?, ?)", self._waiting.items()
      )
    self._waiting = {}

  def commit_and_close(self) -> None:
    """Commits and closes the file."""
    try:
      self.commit()
    finally:
      self._database.close()

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Raises ValueError for an error of SQLite, or of its file."""
    try:
      yield
    except (sqlite3.Error, OSError) as error:
      raise ValueError(
        f"The cache {self._path} cannot be used ({error}). Name another --cache."
      ) from error


@dataclasses.dataclass(frozen=True)
class LabelModel:
  """A model that answers prompts, and what identifies it."""

  kind: str  # "openai" or "local".
  model: str
  ask_all: AskAll | None  # Prompts -> (number, answer or None) as they come; None: only the cache.
  seed: int = 0

  def key(self, kind: str, text: str) -> str:
    """The key of the answer about a text."""
    content = dict(
      labeller=self.kind,
      model=self.model,
      prompt=PROMPT_VERSION,
      kind=kind,
      text=text,
      max_tokens=MOST_TOKENS,
      seed=self.seed,
    )
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class CachedLabels:
  """A labeller.

  Labels of a model, from the cache where it has them.

  A text without a usable answer gets its label by rules, and is counted in `fallbacks`.
  """

  def __init__(self, model: LabelModel, cache: AnswerCache):
    self._model = model
    self._cache = cache
    self._used: dict[str, bytes] = {}  # Key -> sha256 of the answer.
    self.asked = 0
    self.fallbacks = 0

  def __call__(self, texts: Sequence[str], kind: str) -> list[tuple[str, ...] | None]:
    """The labels of each text; None where nothing is left.

    Raises ValueError for a text that is not in the cache if there is no model.
    """
    keys = {text: self._model.key(kind, text) for text in texts}
    answers = {text: self._cache.answer(key) for text, key in keys.items()}
    missing = [text for text, answer in answers.items() if answer is None]
    if missing:
      answers |= self._ask(missing, kind, keys)
    labels = []
    for text in texts:
      answer = answers[text]
      usable = None
      if answer is not None:
        self._used[keys[text]] = hashlib.sha256(answer.encode()).digest()
        usable = parse_labels(answer, text)
      if usable is None:
        self.fallbacks += 1
        usable = rule_labels([text], kind)[0]
      labels.append(usable)
    return labels

  def answers_digest(self) -> str:
    """The sha256 of all answers that were used."""
    total = hashlib.sha256()
    for key, answer in sorted(self._used.items()):
      total.update(key.encode() + answer)
    return total.hexdigest()

  def _ask(self, texts: Sequence[str], kind: str, keys: Mapping[str, str]) -> dict[str, str | None]:
    """New answers by text; those that came before an error are kept."""
    if self._model.ask_all is None:
      raise ValueError(
        f"--cache-only: {len(texts)} texts are not in the cache of {self._model.kind} "
        f"{self._model.model!r}, the first is {texts[0][:80]!r}. Run without --cache-only."
      )
    prompts = [PROMPTS[kind].format(text=text) for text in texts]
    answers: dict[str, str | None] = {}
    try:
      for number, answer in self._model.ask_all(prompts):
        text = texts[number]
        # A refusal is an answer, too: it is not asked again.
        answers[text] = "" if answer is None else answer
        self._cache.put_answer(keys[text], answers[text] or "")
        self.asked += 1
    finally:
      self._cache.commit()
    return answers


def parse_labels(answer: str, text: str) -> tuple[str, ...] | None:
  """The labels of an answer.

  None unless it keeps the form and the words of the text.
  """
  try:
    content: Any = json.loads(answer)
    labels = content["labels"]
  except (ValueError, TypeError, KeyError):
    return None
  if not isinstance(labels, list) or not 1 <= len(labels) <= _MOST_LABELS:
    return None
  words = content_words(text)
  cleaned = []
  for label in labels:
    if not isinstance(label, str) or len(label.split()) not in _WORDS:
      return None
    if not content_words(label) & words:
      return None
    cleaned.append(" ".join(label.split()).strip(" ."))
  return tuple(cleaned)
