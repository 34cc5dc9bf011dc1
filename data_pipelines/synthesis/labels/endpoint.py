# SPDX-License-Identifier: Apache-2.0
"""Labels by a served model with OpenAI's interface (vLLM, SGLang, a hosted one).

Only annotation texts are sent, never pixels. The key is read from an environment variable and goes
into the request's header alone: it is in no file, log or message.
"""

from collections.abc import Iterator, Sequence
import concurrent.futures
import dataclasses
import email.utils
import http.client
import json
import random
import threading
import time
from typing import Any
import urllib.parse

from data_pipelines.synthesis.labels.cache import MOST_TOKENS, LabelError

IN_FLIGHT = 16
TRIES = 6
LONGEST_WAIT = 60.0  # Seconds between two tries, also if the server asks for more.
_AGAIN = frozenset({408, 409, 429})  # And 500 and above.
_REFUSED = frozenset({400, 413, 422})  # This text; others may work.


@dataclasses.dataclass(frozen=True)
class ChatEndpoint:
  """A server of chat completions."""

  url: str  # Up to /chat/completions, e.g. "http://localhost:8000/v1".
  model: str
  key: str = dataclasses.field(default="", repr=False)
  seed: int = 0
  timeout: float = 120.0
  first_wait: float = 1.0  # Seconds before the second try; doubles.

  def __post_init__(self):
    parts = urllib.parse.urlsplit(self.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
      raise ValueError(f"--url {self.url!r} is not an http:// or https:// address.")
    if any(character in self.key for character in "\r\n"):
      raise ValueError("The key in the variable of --key-env has several lines.")

  def ask_all(self, prompts: Sequence[str]) -> Iterator[tuple[int, str | None]]:
    """Yields (number of the prompt, answer) as they come.

    None for a refused text.

    Raises ValueError if the server cannot be used; what it answered before was yielded.
    """
    connections = threading.local()
    stop = threading.Event()

    def answer(prompt: str) -> str | None:
      if stop.is_set():
        raise concurrent.futures.CancelledError
      try:
        return self._answer(prompt, connections, stop)
      except LabelError:
        return None

    pool = concurrent.futures.ThreadPoolExecutor(IN_FLIGHT)
    try:
      futures = {pool.submit(answer, prompt): number for number, prompt in enumerate(prompts)}
      failure: Exception | None = None
      for future in concurrent.futures.as_completed(futures):
        try:
          text = future.result()
        except concurrent.futures.CancelledError:
          continue
        except ValueError as error:
          failure = failure or error
          stop.set()
        else:
          yield futures[future], text
      if failure is not None:
        raise failure
    finally:
      stop.set()
      pool.shutdown(cancel_futures=True)

  def _answer(self, prompt: str, connections: threading.local, stop: threading.Event) -> str:
    """The answer to a prompt, after as many tries as it takes."""
    problem = ""
    for attempt in range(TRIES):
      wait = self.first_wait * 2**attempt
      try:
        status, headers, body = self._post(prompt, connections)
      except (OSError, http.client.HTTPException) as error:
        problem = f"{type(error).__name__}: {error}"
      else:
        if status == 200:
          try:
            return _content(body)
          except LabelError:
            raise
          except ValueError as error:
            problem = f"its answer cannot be read: {error}"
        elif status in _REFUSED:
          raise LabelError(f"status {status}")
        elif status in _AGAIN or status >= 500:
          problem = f"status {status}"
          wait = _asked_wait(headers.get("Retry-After", "")) or wait
        else:
          raise ValueError(f"{self.url} answers with status {status}{_hint(status)}.")
      if attempt + 1 < TRIES and stop.wait(min(wait, LONGEST_WAIT) * random.uniform(1, 1.25)):
        raise concurrent.futures.CancelledError
    raise ValueError(
      f"{self.url} gave no answer in {TRIES} tries; the last problem: {problem}. What was answered "
      "is in the cache: start again to go on."
    )

  def _post(
    self, prompt: str, connections: threading.local
  ) -> tuple[int, http.client.HTTPMessage, bytes]:
    """(status, headers, body) of one request; one connection a thread."""
    connection = getattr(connections, "connection", None)
    if connection is None:
      connection = self._connect()
      connections.connection = connection
    parts = urllib.parse.urlsplit(self.url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
    headers = {"Content-Type": "application/json"}
    if self.key:
      headers["Authorization"] = f"Bearer {self.key}"
    try:
      connection.request("POST", path, json.dumps(self._body(prompt)).encode(), headers)
      response = connection.getresponse()
      return response.status, response.headers, response.read()
    except (OSError, http.client.HTTPException):
      connection.close()
      connections.connection = None
      raise

  def _connect(self) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(self.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=self.timeout)

  def _body(self, prompt: str) -> dict[str, Any]:
    return dict(
      model=self.model,
      messages=[dict(role="user", content=prompt)],
      temperature=0,
      max_tokens=MOST_TOKENS,
      seed=self.seed,
      response_format=dict(type="json_object"),
    )


def _content(body: bytes) -> str:
  """The answer in a completion.

  Raises LabelError for one that was cut off, ValueError for no completion.
  """
  try:
    choice = json.loads(body)["choices"][0]
    reason = choice.get("finish_reason")
    text = choice["message"]["content"]
  except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
    raise ValueError(f"no chat completion ({type(error).__name__})") from None
  if reason == "length" or not isinstance(text, str):
    raise LabelError("the answer is cut off or empty")
  return text


def _asked_wait(value: str) -> float:
  """Seconds of a Retry-After header, in either of its forms.

  It is 0 without such a header.
  """
  try:
    return max(0.0, float(value))
  except ValueError:
    pass
  try:
    return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
  except (TypeError, ValueError):
    return 0.0


def _hint(status: int) -> str:
  if status in (401, 403):
    return ": the key in the variable of --key-env is missing or wrong"
  if status == 404:
    return ": --url or --model is wrong"
  return ""
