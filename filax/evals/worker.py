# SPDX-License-Identifier: Apache-2.0
"""Answers requests that come as lines of JSON (filax/evals/worker_requests.py).

A line is a request, or {"requests": [...]}: requests about the same media then share their
encoding, and prompts are answered in batches. Every request gets one line, in any order:
{"id": ..., "answer": ...} or {"id": ..., "error": ...}. The first line describes the model.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
import json
import sys
import traceback
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.sample import Timeline
from filax.evals.device_time import DeviceClock
from filax.evals.kit import Example
from filax.evals.reading import MediaReader, ReadMedium
from filax.evals.visuals import EncodedSet, MediaEncoder
from filax.evals.worker_requests import WorkerRequest, parse_request
from filax.infer import compiled, encoded_media
from filax.infer.generate import check_prompts, context_length, generate
from filax.infer.loaded import LoadedModel

SCHEMA = 1  # Version of requests and answers.

Reply = dict[str, Any]
Settings = tuple[tuple[str, Any], ...]


class WaitingPrompt(NamedTuple):
  """A request whose media are encoded."""

  request: WorkerRequest
  tokens: list[int]
  visual_index: np.ndarray
  table: jax.Array  # [M D]


WaitingPrompts = dict[Settings, list[WaitingPrompt]]  # Prompts with the same settings.


class AnswerWorker:
  """Answers requests with a loaded model, `batch` prompts at a time."""

  def __init__(self, loaded: LoadedModel, batch: int, threads: int):
    self._loaded = loaded
    self._batch = batch
    max_new_tokens = loaded.processor.infer["max_new_tokens"]
    self._reader = MediaReader(loaded, max_new_tokens, blind=False, threads=threads)
    self._encoder = MediaEncoder(loaded, DeviceClock())

  def description(self) -> Reply:
    """The first line of a worker."""
    processor = self._loaded.processor
    mesh = processor.mesh
    return dict(
      schema=SCHEMA,
      checkpoint=processor.source,
      selector=processor.infer["selector"]["name"],
      frames=processor.sampling.get("frames"),
      context=context_length(self._loaded.model),
      max_new_tokens=processor.infer["max_new_tokens"],
      dtype=str(jnp.dtype(self._loaded.model.llm.dtype)),
      mesh=None if mesh is None else dict(mesh.shape),
      batch=self._batch,
    )

  def answer_line(self, line: str) -> Iterator[Reply]:
    """The replies to a line of input. Never raises."""
    try:
      content = json.loads(line)
    except (ValueError, RecursionError) as error:
      yield dict(id=None, error=f"The line is not JSON: {error}.")
      return
    records = [content]
    if isinstance(content, dict) and isinstance(content.get("requests"), list):
      records = content["requests"]
    requests = []
    for record in records:
      try:
        requests.append(parse_request(record))
      except (ValueError, OSError) as error:
        request_id = record.get("id") if isinstance(record, dict) else None
        yield dict(id=request_id, error=one_line(error))
    yield from self.answer_requests(requests)

  def answer_requests(self, requests: Iterable[WorkerRequest]) -> Iterator[Reply]:
    """A reply to every request.

    Media are read and encoded once for all requests about them.
    """
    groups: dict[tuple[Timeline, ...], list[WorkerRequest]] = collections.defaultdict(list)
    for request in requests:
      groups[request.media].append(request)
    waiting: WaitingPrompts = collections.defaultdict(list)
    examples = [[Example("", group[0].turn, media=media)] for media, group in groups.items()]
    try:
      for read in self._reader.read_ahead(examples):
        group = groups.pop(read.examples[0].media)
        yield from self._answer_group(group, read.media, waiting)
    except Exception as error:  # Reading has ended; what it has not read cannot be answered.
      for group in groups.values():
        yield from _error_replies(group, error)
    for prompts in waiting.values():
      yield from self._generate_answers(prompts)

  def _answer_group(
    self, group: Sequence[WorkerRequest], media: Sequence[ReadMedium], waiting: WaitingPrompts
  ) -> Iterator[Reply]:
    """Adds the requests about some media; replies to full batches."""
    try:
      started = self._encoder.start_encoding(media)
      encoded = self._encoder.finish_encoding(started)
    except Exception as error:  # Whatever one video provokes, the others are answered.
      yield from _error_replies(group, error)
      return
    for request in group:
      try:
        prompt = self._encode_prompt(request, encoded)
      except Exception as error:
        yield from _error_replies([request], error)
        continue
      prompts = waiting[request.settings]
      prompts.append(prompt)
      if len(prompts) == self._batch:
        yield from self._generate_answers(waiting.pop(request.settings))

  def _encode_prompt(self, request: WorkerRequest, shown: EncodedSet) -> WaitingPrompt:
    """Tokens and visual table of a request.

    Raises ValueError if they exceed the context or the buckets.
    """
    processor = self._loaded.processor
    tokens, index = processor.encode_prompt([request.turn], shown.media)
    settings = processor.settings(**dict(request.settings))
    check_prompts(self._loaded.model, [tokens], settings["max_new_tokens"])
    compiled.bucket(len(tokens), settings["lengths"], "config.infer.lengths")
    return WaitingPrompt(request, tokens, index, shown.table)

  def _generate_answers(self, prompts: Sequence[WaitingPrompt]) -> Iterator[Reply]:
    """The replies to prompts with the same settings.

    The number of rows is a power of two, so that few programs are compiled.
    """
    processor = self._loaded.processor
    requests = [prompt.request for prompt in prompts]
    missing = (1 << (len(prompts) - 1).bit_length()) - len(prompts)
    rows = [*prompts, *[prompts[0]] * missing]
    settings = processor.settings(**dict(requests[0].settings))
    try:
      generated = generate(
        self._loaded.model,
        self._loaded.params,
        [row.tokens for row in rows],
        table=encoded_media.stacked_tables([row.table for row in rows]),
        visual_index=[row.visual_index for row in rows],
        mesh=processor.mesh,
        **settings,
      )
    except Exception as error:
      yield from _error_replies(requests, error)
      return
    for request, ids in zip(requests, generated.tokens, strict=False):
      answer = request.shortened(processor.answer_text(ids))
      yield dict(id=request.id, answer=answer)


def serve_lines(worker: AnswerWorker, lines: Iterable[str], output: TextIO) -> None:
  """Writes the description, then the replies to every line."""
  _write(output, worker.description())
  for line in lines:
    if line.strip():
      for reply in worker.answer_line(line):
        _write(output, reply)


def one_line(error: Exception) -> str:
  """An error as one line of text."""
  return " ".join(str(error).split()) or type(error).__name__


def _error_replies(requests: Sequence[WorkerRequest], error: Exception) -> Iterator[Reply]:
  """The same error for several requests.

  The traceback of an unexpected one goes to stderr.
  """
  if not isinstance(error, ValueError | OSError):
    traceback.print_exception(error, file=sys.stderr)
  for request in requests:
    yield dict(id=request.id, error=one_line(error))


def _write(output: TextIO, reply: Mapping[str, Any]) -> None:
  output.write(json.dumps(reply) + "\n")
  output.flush()
