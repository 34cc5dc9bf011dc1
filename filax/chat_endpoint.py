# SPDX-License-Identifier: Apache-2.0
"""A served model with OpenAI's chat completions (vLLM, SGLang, a hosted one).

Several threads may ask one endpoint. The key goes into the request's header alone: it is in no
file, log or message.
"""

from collections.abc import Mapping
import dataclasses
import email.message
import email.utils
import http.client
import json
import random
import sys
import threading
import time
from typing import Any, NamedTuple
import urllib.error
import urllib.parse
import urllib.request

IN_FLIGHT = 16  # Requests at a time, unless a setting says otherwise.
# Settings that some models or servers refuse.
OPTIONAL = ("max_tokens", "temperature", "seed", "response_format")
LIMITS = (429, 503)  # HTTP codes of an endpoint that has too many requests.
BUSY = (*LIMITS, 408, 409, 425, 500, 502, 504)  # HTTP codes that are worth another try.
OF_ONE_TEXT = (400, 413, 422)  # HTTP codes that concern one text; others may be answered.
MOST_BYTES = 1 << 20  # The largest reply that is read.
MOST_CHARACTERS = 300  # Of an error's body that are shown.
LONGEST_PAUSE = 60.0  # Seconds between two tries,
LONGEST_ASKED_PAUSE = 600.0  # and if the endpoint asks for more.
REPORTED_PAUSE = 10.0  # Asked pauses of so many seconds are reported.


class EndpointError(ValueError):
  """The endpoint gives no reply.

  The message says why, and which setting to look at.
  """


class NoReply(EndpointError):
  """All tries of a request failed."""


class TextRefused(EndpointError):
  """The endpoint refuses this text; it may answer others."""


class _Busy(Exception):
  """A failure that may pass."""

  def __init__(self, reason: str, limits: bool = False, pause: float = 0.0):
    super().__init__(reason)
    self.limits = limits  # Whether there were too many requests.
    self.pause = pause  # Seconds that the endpoint asks to wait.


class _NoRedirects(urllib.request.HTTPRedirectHandler):
  """Refuses redirects: the key belongs to one host."""

  def redirect_request(self, req, fp, code, msg, headers, newurl):
    return None


class Knobs(NamedTuple):
  """What messages call the endpoint and its settings."""

  endpoint: str  # E.g. "judge".
  url: str
  model: str
  key: str


class Completion(NamedTuple):
  """A reply of a model."""

  text: str  # "" if a model that thinks had no room for an answer.
  is_cut: bool  # Whether max_tokens cut it off.


KNOBS = Knobs("endpoint", "url", "model", "key")


@dataclasses.dataclass
class ChatEndpoint:
  """A model behind `url` + "/chat/completions".

  A request that fails is tried `tries` times. It waits as long as the endpoint asks (Retry-After),
  else with pauses that double from `pause` seconds. A try that met too many requests does not count
  while other requests are answered. Raises ValueError for an invalid setting.
  """

  url: str  # E.g. "https://host/v1".
  model: str
  key: str = dataclasses.field(default="", repr=False)
  knobs: Knobs = KNOBS
  tries: int = 5
  pause: float = 1.0
  timeout: float = 300.0  # Seconds without a byte.
  replies: int = dataclasses.field(default=0, init=False)  # Completions so far.

  def __post_init__(self):
    knobs = self.knobs
    try:
      address = urllib.parse.urlsplit(self.url)
      _ = address.port
    except ValueError:
      address = urllib.parse.urlsplit("")
    if address.scheme not in ("http", "https") or not address.hostname:
      raise ValueError(
        f"The {knobs.endpoint}'s address {self.url!r} is not an http:// or https:// address. Set "
        f"{knobs.url} to https://HOST/v1."
      )
    if not self.model:
      raise ValueError(
        f"The {knobs.endpoint} has no model. Set {knobs.model} to one that {self.url} serves."
      )
    self.key = self.key.strip()
    if not self.key.isascii() or not self.key.isprintable():
      raise ValueError(
        f"The {knobs.endpoint}'s key holds characters that no key has. Set {knobs.key} again."
      )
    path = address.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
    self._address = address._replace(path=path).geturl()
    self._refused: set[str] = set()  # Of OPTIONAL.
    self._paused_until = 0.0  # The end of the last pause that was printed (time.monotonic).
    self._lock = threading.Lock()
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(address.hostname or ""):
      handlers.append(urllib.request.ProxyHandler({}))  # None: a proxy has its own localhost.
    self._opener = urllib.request.build_opener(*handlers)

  def complete(self, body: Mapping[str, Any]) -> Completion:
    """The reply to a request, after as many tries as it takes.

    body: the request without the model. Raises EndpointError.
    """
    failures = 0
    replies = self.replies
    while True:
      try:
        completion = self._try_request(dict(body, model=self.model))
      except _Busy as error:
        is_served = self.replies > replies  # Other requests were answered meanwhile.
        if not (error.limits and is_served):
          failures += 1
        if failures == self.tries:
          raise NoReply(
            f"The {self.knobs.endpoint} at {self.url} gives no reply after {self.tries} tries: "
            f"{error}. Start it, or set {self.knobs.url}; the same command then asks only what is "
            "left."
          ) from None
        replies = self.replies
        self._wait(failures, error)
      else:
        with self._lock:
          self.replies += 1
        return completion

  def _wait(self, failures: int, error: _Busy) -> None:
    """Waits before another try."""
    spread = random.uniform(1.0, 1.25)  # Threads that failed together try apart.
    seconds = min(error.pause, LONGEST_ASKED_PAUSE)
    if not seconds:
      seconds = min(self.pause * 2 ** max(failures - 1, 0), LONGEST_PAUSE)
    if error.pause >= REPORTED_PAUSE:
      self._report_pause(seconds, error)
    time.sleep(seconds * spread)

  def _report_pause(self, seconds: float, error: _Busy) -> None:
    """Prints that the endpoint asks to wait, once for all threads."""
    now = time.monotonic()
    with self._lock:
      if now < self._paused_until:
        return
      self._paused_until = now + seconds
    print(
      f"The {self.knobs.endpoint} asks to wait {seconds:.0f} seconds ({error}).",
      file=sys.stderr,
      flush=True,
    )

  def _try_request(self, body: Mapping[str, Any]) -> Completion:
    """One request. Raises _Busy if another try may help."""
    headers = {"Content-Type": "application/json"}
    if self.key:
      headers["Authorization"] = f"Bearer {self.key}"
    accepted = self._accepted(body)
    request = urllib.request.Request(self._address, json.dumps(accepted).encode(), headers)
    try:
      with self._opener.open(request, timeout=self.timeout) as response:
        return _completion(response.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
      explanation = _explanation(error, self.key)
      refused = _refused_settings(error.code, explanation) & set(accepted)
      if refused:
        self._refused |= refused
        return self._try_request(body)
      reason = f"HTTP {error.code} {error.reason}{explanation}"
      if error.code in BUSY:
        raise _Busy(reason, error.code in LIMITS, _asked_pause(error.headers)) from None
      raise self._refusal(error.code, reason) from None
    except (OSError, http.client.HTTPException) as error:
      reason = str(getattr(error, "reason", "") or error or type(error).__name__)
      raise _Busy(reason) from None

  def _refusal(self, code: int, reason: str) -> EndpointError:
    """The error of a request that no further try would help."""
    knobs = self.knobs
    if code in OF_ONE_TEXT:
      return TextRefused(f"The {knobs.endpoint} at {self.url} refuses a text: {reason}.")
    return EndpointError(
      f"The {knobs.endpoint} at {self.url} refuses {self.model!r}: {reason}. Check {knobs.url}, "
      f"{knobs.model} and {knobs.key}."
    )

  def _accepted(self, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body without the settings that the model has refused."""
    refused = set(self._refused)
    accepted = {name: value for name, value in body.items() if name not in refused}
    if "max_tokens" in refused and "max_tokens" in body:
      accepted["max_completion_tokens"] = body["max_tokens"]
    return accepted


def _is_loopback(host: str) -> bool:
  """Whether a host is this machine."""
  return host in ("localhost", "::1") or host.startswith("127.")


def _refused_settings(code: int, explanation: str) -> set[str]:
  """The settings of OPTIONAL that an error calls unsupported."""
  if code != http.client.BAD_REQUEST or "unsupported" not in explanation.lower():
    return set()
  return {name for name in OPTIONAL if f"'{name}'" in explanation}


def _completion(content: bytes) -> Completion:
  """The reply in a response. Raises _Busy for another format."""
  try:
    choice = json.loads(content)["choices"][0]
    text = choice["message"]["content"]
    is_cut = choice.get("finish_reason") == "length"
  except (ValueError, LookupError, TypeError, AttributeError):
    raise _Busy("its reply is not a chat completion") from None
  return Completion(text if isinstance(text, str) else "", is_cut)


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
  """The seconds of Retry-After, a number or a date; 0 without it."""
  value = headers.get("Retry-After", "")
  try:
    return max(0.0, float(value))
  except ValueError:
    pass
  try:
    return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
  except (TypeError, ValueError):
    return 0.0
