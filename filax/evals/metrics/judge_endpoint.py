# SPDX-License-Identifier: Apache-2.0
"""A judge behind an OpenAI-compatible endpoint, which is asked each thing once.

Replies are kept in a file, so that the same command after a stop asks only what is new. Several
processes may share the file.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import sys
import threading

from filax.chat_endpoint import IN_FLIGHT, ChatEndpoint, Knobs

URL = "FILAX_JUDGE_URL"
MODEL = "FILAX_JUDGE_MODEL"
KEY = "FILAX_JUDGE_KEY"
CACHE = "FILAX_JUDGE_CACHE"
AT_ONCE = "FILAX_JUDGE_IN_FLIGHT"
KNOBS = Knobs("judge", URL, MODEL, KEY)

Messages = Sequence[Mapping[str, str]]


@dataclasses.dataclass
class JudgeEndpoint:
  """A model that judges, behind `url` + "/chat/completions".

  `cache` is the file of its replies, "" for none; `in_flight` answers are judged at a time. The
  other settings are those of ChatEndpoint. Raises ValueError for an invalid setting.
  """

  url: str  # E.g. "https://host/v1".
  model: str
  key: str = dataclasses.field(default="", repr=False)
  cache: str = ""
  tries: int = 5
  pause: float = 1.0
  timeout: float = 300.0
  max_tokens: int = 2048  # Room for the thoughts of a model that thinks.
  in_flight: int = IN_FLIGHT

  def __post_init__(self):
    if self.in_flight < 1:
      raise ValueError(f"The judge is asked {self.in_flight} answers at a time. Set {AT_ONCE}.")
    self._chat = ChatEndpoint(
      self.url, self.model, self.key, KNOBS, self.tries, self.pause, self.timeout
    )
    self._replies = _read_cache(self.cache)
    self._lock = threading.Lock()  # Of the cache.

  @classmethod
  def from_environment(cls) -> "JudgeEndpoint":
    """The endpoint of FILAX_JUDGE_URL, _MODEL, _KEY, _CACHE and _IN_FLIGHT.

    Raises ValueError without a URL or a model.
    """
    environment = os.environ
    in_flight = environment.get(AT_ONCE, "").strip() or str(IN_FLIGHT)
    if not in_flight.isdecimal():
      raise ValueError(f"{AT_ONCE}={in_flight!r} is not a number. Set it to 1 or more.")
    return cls(
      environment.get(URL, ""),
      environment.get(MODEL, ""),
      environment.get(KEY, ""),
      environment.get(CACHE, ""),
      in_flight=int(in_flight),
    )

  @property
  def replies(self) -> int:
    """How many requests were answered so far."""
    return self._chat.replies

  def ask(self, messages: Messages) -> str:
    """The reply to messages, from the cache where it has one.

    Raises filax.chat_endpoint.EndpointError.
    """
    body = dict(messages=list(messages), temperature=0, max_tokens=self.max_tokens)
    content = json.dumps([self.url, dict(body, model=self.model)], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if digest not in self._replies:
      reply = self._chat.complete(body).text
      with self._lock:
        self._replies[digest] = reply
        if reply:
          self._keep_reply(digest, reply)
    return self._replies[digest]

  def _keep_reply(self, digest: str, reply: str) -> None:
    """Adds a reply to the cache; reports an unwritable cache once."""
    if not self.cache:
      return
    try:
      _append_reply(self.cache, digest, reply)
    except OSError as error:
      print(f"The judge's replies are not kept: {error}. Set {CACHE}.", file=sys.stderr, flush=True)
      self.cache = ""


def _read_cache(path: str) -> dict[str, str]:
  """The replies of a file.

  A line that was cut off is ignored. Raises ValueError for an unreadable file.
  """
  replies: dict[str, str] = {}
  if not path or not os.path.exists(path):
    return replies
  try:
    with open(path, encoding="utf-8", errors="replace") as file:
      lines = file.readlines()
  except OSError as error:
    raise ValueError(f"The judge's replies cannot be read: {error}. Set {CACHE}.") from None
  for line in lines:
    try:
      record = json.loads(line)
      replies[record["key"]] = record["reply"]
    except (ValueError, LookupError, TypeError):
      continue
  return replies


def _append_reply(path: str, digest: str, reply: str) -> None:
  """Adds a line to the cache.

  A line that was cut off is ended first.
  """
  os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
  line = json.dumps(dict(key=digest, reply=reply)) + "\n"
  with open(path, "ab") as file:
    file.write(b"" if _ends_line(path) else b"\n")
    file.write(line.encode())


def _ends_line(path: str) -> bool:
  """Whether a file is empty or ends a line."""
  with open(path, "rb") as file:
    size = file.seek(0, os.SEEK_END)
    if not size:
      return True
    file.seek(size - 1)
    return file.read(1) == b"\n"
