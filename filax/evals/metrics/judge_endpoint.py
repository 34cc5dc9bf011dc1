# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible endpoint that is asked each thing once.

Replies are kept in a file, so that the same command after a stop asks only what is new. Several
processes may share the file.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import email.message
import hashlib
import http.client
import json
import os
import sys
import time
from typing import Any
import urllib.error
import urllib.parse
import urllib.request

URL = "FILAX_JUDGE_URL"
MODEL = "FILAX_JUDGE_MODEL"
KEY = "FILAX_JUDGE_KEY"
CACHE = "FILAX_JUDGE_CACHE"
OPTIONAL = ("max_tokens", "temperature")  # Settings that newer models of OpenAI refuse.
BUSY = (408, 409, 425, 429, 500, 502, 503, 504)  # HTTP codes that are worth another try.
MOST_BYTES = 1 << 20  # The largest reply that is read.
MOST_CHARACTERS = 300  # Of an error's body that are shown.
LONGEST_PAUSE = 60.0  # Seconds.

Messages = Sequence[Mapping[str, str]]


class JudgeUnreachable(ValueError):
  """The endpoint gives no reply.

  The message says why, and which setting to look at.
  """


class _Busy(Exception):
  """A failure that may pass."""

  def __init__(self, reason: str, pause: float = 0.0):
    super().__init__(reason)
    self.pause = pause  # Seconds that the endpoint asks to wait.


class _NoRedirects(urllib.request.HTTPRedirectHandler):
  """Refuses redirects: the key belongs to one host."""

  def redirect_request(self, req, fp, code, msg, headers, newurl):
    return None


def _is_loopback(host: str) -> bool:
  """Whether a host is this machine."""
  return host in ("localhost", "::1") or host.startswith("127.")


@dataclasses.dataclass
class JudgeEndpoint:
  """A model behind `url` + "/chat/completions".

  `cache` is the file of its replies, "" for none. A failing request is tried `tries` times, with
  pauses that double from `pause` seconds. Raises ValueError for an invalid URL.
  """

  url: str  # E.g. "https://host/v1".
  model: str
  key: str = dataclasses.field(default="", repr=False)
  cache: str = ""
  tries: int = 5
  pause: float = 1.0
  timeout: float = 60.0
  max_tokens: int = 2048  # Room for the thoughts of a model that thinks.

  def __post_init__(self):
    address = urllib.parse.urlsplit(self.url)
    if address.scheme not in ("http", "https") or not address.netloc:
      raise ValueError(f"The judge's URL {self.url!r} is none. Set {URL} to https://HOST/v1.")
    if not self.model:
      raise ValueError(f"The judge has no model. Set {MODEL} to one that {self.url} serves.")
    self.key = self.key.strip()
    if not self.key.isascii() or not self.key.isprintable():
      raise ValueError(f"The judge's key holds characters that no key has. Set {KEY} again.")
    self._replies = _read_cache(self.cache)
    self._refused: set[str] = set()  # Of OPTIONAL.
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(address.hostname or ""):
      handlers.append(urllib.request.ProxyHandler({}))  # None: a proxy has its own localhost.
    self._opener = urllib.request.build_opener(*handlers)

  @classmethod
  def from_environment(cls) -> "JudgeEndpoint":
    """The endpoint of FILAX_JUDGE_URL, _MODEL, _KEY and _CACHE.

    Raises ValueError without a URL or a model.
    """
    environment = os.environ
    return cls(
      environment.get(URL, ""),
      environment.get(MODEL, ""),
      environment.get(KEY, ""),
      environment.get(CACHE, ""),
    )

  def ask(self, messages: Messages) -> str:
    """The reply to messages, from the cache where it has one.

    Raises JudgeUnreachable.
    """
    body = dict(
      model=self.model, messages=list(messages), temperature=0, max_tokens=self.max_tokens
    )
    content = json.dumps([self.url, body], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if digest not in self._replies:
      reply = self._request(body)
      self._replies[digest] = reply
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

  def _request(self, body: Mapping[str, Any]) -> str:
    """The reply to a request, after as many tries as it takes."""
    pause = self.pause
    for attempt in range(1, self.tries + 1):
      try:
        return self._try_request(body)
      except _Busy as error:
        if attempt == self.tries:
          raise JudgeUnreachable(
            f"The judge at {self.url} gives no reply after {self.tries} tries: {error}. Start it, "
            f"or set {URL}; the same command then asks only what is left."
          ) from None
        time.sleep(min(max(pause, error.pause), LONGEST_PAUSE))
        pause *= 2
    raise AssertionError("unreachable")

  def _try_request(self, body: Mapping[str, Any]) -> str:
    """One request. Raises _Busy if another try may help."""
    headers = {"Content-Type": "application/json"}
    if self.key:
      headers["Authorization"] = f"Bearer {self.key}"
    content = json.dumps(self._accepted(body)).encode()
    request = urllib.request.Request(self.url.rstrip("/") + "/chat/completions", content, headers)
    try:
      with self._opener.open(request, timeout=self.timeout) as response:
        return _reply_text(response.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
      explanation = _explanation(error, self.key)
      refused = _refused_settings(error.code, explanation) - self._refused
      if refused:
        self._refused |= refused
        return self._try_request(body)
      reason = f"HTTP {error.code} {error.reason}{explanation}"
      if error.code in BUSY:
        raise _Busy(reason, _asked_pause(error.headers)) from None
      raise JudgeUnreachable(
        f"The judge at {self.url} refuses {self.model!r}: {reason}. Check {URL}, {MODEL} and {KEY}."
      ) from None
    except (OSError, http.client.HTTPException) as error:
      reason = str(getattr(error, "reason", "") or error or type(error).__name__)
      raise _Busy(reason) from None

  def _accepted(self, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body without the settings that the model has refused."""
    accepted = {name: value for name, value in body.items() if name not in self._refused}
    if "max_tokens" in self._refused:
      accepted["max_completion_tokens"] = body["max_tokens"]
    return accepted


def _refused_settings(code: int, explanation: str) -> set[str]:
  """The settings of OPTIONAL that an error calls unsupported."""
  if code != http.client.BAD_REQUEST or "unsupported" not in explanation.lower():
    return set()
  return {name for name in OPTIONAL if f"'{name}'" in explanation}


def _reply_text(content: bytes) -> str:
  """The text of a reply. Raises _Busy for another format."""
  try:
    text = json.loads(content)["choices"][0]["message"]["content"]
  except (ValueError, LookupError, TypeError):
    raise _Busy("its reply is not a chat completion") from None
  if not isinstance(text, str):
    raise _Busy("its reply has no text")
  return text


def _explanation(error: urllib.error.HTTPError, key: str) -> str:
  """The first words of an error's body, in brackets, without the key."""
  try:
    words = error.read(MOST_BYTES).decode(errors="replace").split()
  except (OSError, http.client.HTTPException):
    return ""
  text = " ".join(words)
  if key:
    text = text.replace(key, "…")
  text = text[:MOST_CHARACTERS]
  return f" ({text})" if text else ""


def _asked_pause(headers: email.message.Message) -> float:
  """The seconds of Retry-After; 0 without it, or for a date."""
  value = headers.get("Retry-After", "")
  return float(value) if value.isdecimal() else 0.0


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
