# SPDX-License-Identifier: Apache-2.0
"""One queue for the device: requests are read, encoded, batched and answered.

Threads read media. One thread has the device; in turn it runs a function of `on_device`, encodes
the media of a request, begins a request whose lane has room, and decodes a chunk of every lane. So
a request waits for the chunk that runs, not for the answers before it.
"""

import collections
from collections.abc import Callable
from concurrent.futures import Future
import functools
import threading
import time
import traceback
from typing import Any

from filax.infer.session import Session
from filax.serve.counters import ServingCounters
from filax.serve.feature_cache import FeatureCache
from filax.serve.handle import AnswerHandle
from filax.serve.jobs import AnswerJob, JobStage, RunningAnswer
from filax.serve.lane_table import LaneTable
from filax.serve.limits import ServingLimits
from filax.serve.media_reading import EncodedVideo, ReadVideo, RequestMedia
from filax.serve.preparation import (
  check_sees_media,
  check_text_length,
  encode_medium,
  prepare_prompt,
  resolved_settings,
)
from filax.serve.prompts import conversation_turns, request_media
from filax.serve.readers import ReaderThreads
from filax.serve.requests import AnswerRequest, Medium, RequestError
from filax.serve.variants import ModelVariants

_ADMISSION_SECONDS = 0.2  # Of encoding and beginning between two chunks; one request at least.
_POLL = 0.05  # Seconds between two looks at deadlines while nothing else happens.
_INTERNAL = RequestError(
  "The server failed to answer; its log has the reason.", status=500, code="internal_error"
)
_STOPPING = RequestError("The server is stopping.", status=503, code="server_stopping")


class Engine:
  """Answers requests, several at a time, on one device queue.

    engine = Engine(filax.load("runs/demo/stage2"))
    for piece in engine.submit(request):
      print(piece.text, end="", flush=True)
    engine.close()

  encode_cache: a folder that keeps visual tokens, as --encode-cache of `filax chat`. fixed_batch:
  always decode limits.batch rows, so that even the rounding of an answer does not depend on how
  many others there are.
  """

  def __init__(
    self,
    session: Session,
    limits: ServingLimits | None = None,
    *,
    encode_cache: str = "",
    readers: int = 2,
    fixed_batch: bool = False,
  ):
    self.session = session
    self.limits = limits or ServingLimits()
    self.counters = ServingCounters()
    self.cache = FeatureCache(self.limits.cache_bytes)
    self._media = RequestMedia(self.limits, self.cache, encode_cache)
    self._variants = ModelVariants(session, self.limits.variants)
    self._lanes = LaneTable(self.limits, fixed_batch)
    self._readers = ReaderThreads(readers)
    self._read_ahead = threading.BoundedSemaphore(readers + 2)  # Media in memory, not encoded.
    self._changed = threading.Condition()
    self._jobs: list[AnswerJob] = []
    self._calls: collections.deque[tuple[Callable[[], Any], Future]] = collections.deque()
    self._closing = False
    self._thread = threading.Thread(target=self._run, name="filax device", daemon=True)
    self._thread.start()

  def submit(self, request: AnswerRequest) -> AnswerHandle:
    """Puts a request into the queue and returns at once.

    Raises RequestError for settings out of range, and for a full queue.
    """
    loaded = self._variants.find_variant(request.selector, request.dropout)
    settings = resolved_settings(loaded, request.settings, self.limits)
    check_text_length(loaded, conversation_turns(request.messages))
    media = request_media(request.messages)
    check_sees_media(loaded, media)
    job = AnswerJob(request, settings, loaded, media)
    with self._changed:
      if self._closing:
        raise _STOPPING
      if len(self._jobs) >= self.limits.waiting:
        raise RequestError(
          f"{len(self._jobs)} requests wait already, and more may not (waiting). Try again later.",
          status=429,
          code="queue_full",
        )
      self._jobs.append(job)
    if media:
      self._readers.submit(functools.partial(self._read_media, job))
    else:
      self._move(job, JobStage.READ)
    return job.handle

  def on_device(self, function: Callable[..., Any], *args: Any) -> Future:
    """Runs function(*args) between two chunks, alone on the device.

    For work beside answers, such as choosing scenes or measuring attention.
    """
    future: Future = Future()
    with self._changed:
      if self._closing:
        raise _STOPPING
      self._calls.append((functools.partial(function, *args), future))
      self._changed.notify_all()
    return future

  def encode_video(self, medium: Medium, selector: str = "", dropout: str = "") -> EncodedVideo:
    """Reads and encodes a video as a request does.

    The web page uses it for its pictures and heat strip. Visual tokens in the cache are not
    computed again. Waits for the device. Raises RequestError.
    """
    loaded = self._variants.find_variant(selector, dropout)
    check_sees_media(loaded, [medium])
    read = self._media.read_medium(loaded, medium, True)
    if not isinstance(read, ReadVideo):
      raise RequestError(f"{medium.label} is not a video.")
    try:
      media, _ = self.on_device(encode_medium, loaded, read, self.cache).result()
    finally:
      self._media.shared.drop_read(read.key)
    return EncodedVideo(loaded, read, media)

  def gauges(self) -> dict[str, float]:
    """Figures of this moment, by the names of ServingCounters."""
    with self._changed:
      running = sum(job.stage is JobStage.RUNNING for job in self._jobs)
      waiting = len(self._jobs) - running
    return dict(filax_running=running, filax_waiting=waiting, filax_cache_bytes=self.cache.bytes)

  @property
  def is_alive(self) -> bool:
    """Whether requests are taken."""
    return self._thread.is_alive() and not self._closing

  def close(self, seconds: float = 30.0) -> bool:
    """Takes no more requests, finishes those that run, and stops.

    Requests that have not ended after `seconds` end with an error. Returns False if the device is
    still at work then.
    """
    with self._changed:
      self._closing = True
      self._changed.notify_all()
    self._thread.join(seconds)
    with self._changed:
      for job in self._jobs:
        job.handle.fail(_STOPPING)
        job.handle.cancel()  # The device goes on with none of them.
    return not self._thread.is_alive()

  def _run(self) -> None:
    """The loop of the device's thread."""
    while True:
      with self._changed:
        if self._closing and not self._jobs and not self._calls:
          return
        if not self._has_work():
          self._changed.wait(_POLL if self._jobs else None)
      self._run_call()
      self._drop_ended_jobs()
      self._admit_jobs()
      self._decode_lanes()

  def _has_work(self) -> bool:
    """Whether the device has something to do now."""
    if self._calls or self._lanes.are_active:
      return True
    return any(job.stage in (JobStage.READ, JobStage.PREPARED) for job in self._jobs)

  def _in_stage(self, stage: JobStage) -> list[AnswerJob]:
    with self._changed:
      return [job for job in self._jobs if job.stage is stage]

  def _move(self, job: AnswerJob, stage: JobStage) -> bool:
    """Another stage for a job; False if it has ended."""
    with self._changed:
      if job.stage is JobStage.ENDED:
        return False
      job.enter(stage)
      self._changed.notify_all()
      return True

  def _read_media(self, job: AnswerJob) -> None:
    """Reads the media of a job, in a thread of the readers."""
    self._read_ahead.acquire()
    if job.handle.cancelled or not self._move(job, JobStage.READING):
      self._read_ahead.release()
      return
    start = time.perf_counter()
    try:
      for medium in job.media:
        job.read.append(self._media.read_medium(job.loaded, medium, len(job.media) == 1))
    except RequestError as error:
      self._end(job, error)
      return
    except Exception:
      traceback.print_exc()
      self._end(job, _INTERNAL)
      return
    job.seconds["read"] = time.perf_counter() - start
    self.counters.increase("filax_read_seconds_total", job.seconds["read"])
    if not self._move(job, JobStage.READ):  # It took too long, and ended before.
      self._forget_reads(job)

  def _drop_ended_jobs(self) -> None:
    """Ends jobs whose client left, or that took too long."""
    now = time.monotonic()
    with self._changed:
      jobs = list(self._jobs)
    for job in jobs:
      if job.handle.cancelled:
        self.counters.increase("filax_cancelled_total")
        self._end(job, None)
      elif job.stage is JobStage.READING and now - job.since > self.limits.decode_seconds + 1:
        self._readers.replace_lost()
        seconds = f"{self.limits.decode_seconds:g} seconds (decode_seconds)"
        message = f"Reading the media took more than {seconds}."
        self._end(job, RequestError(message, status=504, code="decode_timeout"))
      elif job.stage not in (JobStage.RUNNING, JobStage.READING):
        if now - job.submitted - job.seconds["read"] > self.limits.waiting_seconds:
          message = (
            f"The request waited for more than {self.limits.waiting_seconds:g} seconds "
            "(waiting_seconds). Try again later."
          )
          self._end(job, RequestError(message, status=503, code="queue_timeout"))

  def _end(self, job: AnswerJob, error: RequestError | None) -> None:
    """Ends a job without an answer, in whatever stage it is."""
    with self._changed:
      if job.stage is JobStage.ENDED:
        return
      self._leave_stage(job)
      self._jobs.remove(job)
    if error is not None:
      self.counters.increase("filax_failed_total")
    job.handle.fail(error)

  def _leave_stage(self, job: AnswerJob) -> None:
    """Gives back what a job holds; the lock is held."""
    if job.media and job.stage in (JobStage.READING, JobStage.READ):
      self._read_ahead.release()
      self._forget_reads(job)
    self._lanes.free(job)
    job.enter(JobStage.ENDED)
    self._changed.notify_all()

  def _forget_reads(self, job: AnswerJob) -> None:
    for read in job.read:
      self._media.shared.drop_read(read.key)

  def _run_call(self) -> None:
    """Runs the next function of `on_device`."""
    with self._changed:
      if not self._calls:
        return
      function, future = self._calls.popleft()
    if not future.set_running_or_notify_cancel():
      return
    try:
      future.set_result(function())
    except BaseException as error:  # It belongs to whoever waits for the result.
      future.set_exception(error)

  def _admit_jobs(self) -> None:
    """Encodes and begins requests.

    Until none is left, or those that run have waited enough.
    """
    end = time.monotonic() + _ADMISSION_SECONDS
    while time.monotonic() < end:
      is_encoded = self._step(JobStage.READ, self._encode_job)
      is_begun = self._begin_job()
      if not is_encoded and not is_begun:
        return

  def _step(self, stage: JobStage, function: Callable[[AnswerJob], None]) -> bool:
    """Runs a function for the first job of a stage.

    Its errors end that job alone. Returns whether there was one.
    """
    jobs = self._in_stage(stage)
    if not jobs:
      return False
    try:
      function(jobs[0])
    except RequestError as error:
      self._end(jobs[0], error)
    except Exception:
      traceback.print_exc()
      self._end(jobs[0], _INTERNAL)
    return True

  def _encode_job(self, job: AnswerJob) -> None:
    """Encodes the media of a job and prepares its prompt."""
    start = time.perf_counter()
    for read in job.read:
      encoded, cached = encode_medium(job.loaded, read, self.cache)
      job.encoded.append(encoded)
      job.cached.append(cached)
      self.counters.increase("filax_cache_hits_total" if cached else "filax_encoded_total")
      if isinstance(read, ReadVideo) and not cached:
        self._media.keep_in_folder(job.loaded, read, encoded)
      self._media.shared.drop_read(read.key)
    job.seconds["encode"] = time.perf_counter() - start
    self.counters.increase("filax_encode_seconds_total", job.seconds["encode"])
    job.prompt = prepare_prompt(job)
    if job.media:
      self._read_ahead.release()
    job.read = [read.without_pixels() for read in job.read]
    self._move(job, JobStage.PREPARED)

  def _begin_job(self) -> bool:
    """Begins the first job whose lane has room; False without one."""
    job = self._lanes.next_job(self._in_stage(JobStage.PREPARED))
    if job is None or job.prompt is None:
      return False
    answers = [RunningAnswer(job, index) for index in range(job.request.settings.answers)]
    try:
      chunk = self._lanes.begin(job, answers)
    except Exception:
      traceback.print_exc()
      self._end_lane(job.prompt.shape)
      self._end(job, _INTERNAL)
      return True
    now = time.monotonic()
    job.answers = answers
    job.prompt = None
    job.seconds["prefill"] = chunk.seconds
    busy = job.seconds["read"] + job.seconds["encode"] + chunk.seconds
    job.seconds["queue"] = max(0.0, now - job.submitted - busy)
    self.counters.increase("filax_first_token_seconds_total", now - job.submitted)
    self.counters.increase("filax_prefill_seconds_total", chunk.seconds)
    self.counters.increase("filax_prompt_tokens_total", job.prompt_tokens)
    self.counters.increase("filax_visual_tokens_total", job.prompt_visual_tokens)
    self._move(job, JobStage.RUNNING)
    for answer, ids, stopped in zip(answers, chunk.ids, chunk.stopped, strict=True):
      self._give(answer, ids, stopped)
    return True

  def _decode_lanes(self) -> None:
    """Decodes a chunk of every lane that has answers."""
    for shape in self._lanes.active_shapes():
      self._drop_ended_jobs()
      try:
        owners, chunk = self._lanes.decode(shape)
      except Exception:
        traceback.print_exc()
        self._end_lane(shape)
        continue
      if chunk is None:
        continue
      self.counters.increase("filax_chunks_total")
      self.counters.increase("filax_decode_seconds_total", chunk.seconds)
      for job in {answer.job for answer in owners if answer is not None}:
        job.seconds["decode"] += chunk.seconds
      for row, answer in enumerate(owners):
        if answer is not None:
          self._give(answer, chunk.ids[row], chunk.stopped[row])

  def _give(self, answer: RunningAnswer, ids: list[int], stopped: bool) -> None:
    """Gives tokens to a client, and ends what is complete."""
    answer.add_ids(ids, stopped)
    self.counters.increase("filax_answer_tokens_total", len(ids))
    if not answer.ended:
      return
    self._lanes.free_answer(answer)
    self.counters.increase("filax_answers_total")
    job = answer.job
    if job.is_answered and job.stage is JobStage.RUNNING:
      with self._changed:
        self._leave_stage(job)
        self._jobs.remove(job)
      job.handle.complete(job.usage())

  def _end_lane(self, shape: Any) -> None:
    """Ends all answers of a lane whose state is lost."""
    for job in self._lanes.drop(shape):
      self._end(job, _INTERNAL)
