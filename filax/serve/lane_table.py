# SPDX-License-Identifier: Apache-2.0
"""The open lanes, bounded by the bytes of their keys and values."""

from collections.abc import Sequence

from filax.infer.generate import TokenChunk
from filax.infer.loaded import LoadedModel
from filax.serve.jobs import AnswerJob, RunningAnswer
from filax.serve.lanes import Lane, LaneShape, row_bytes
from filax.serve.limits import ServingLimits

_GROWTH = 2  # A lane has 1, 2, 4, ... rows.


class LaneTable:
  """Lanes by their shape.

  A lane without answers is closed when memory is needed.
  """

  def __init__(self, limits: ServingLimits, fixed_batch: bool = False):
    self._limits = limits
    self._fixed_batch = fixed_batch
    self._lanes: dict[LaneShape, Lane] = {}
    self._row_bytes: dict[LaneShape, int] = {}

  @property
  def are_active(self) -> bool:
    """Whether some lane has answers."""
    return any(not lane.is_empty for lane in self._lanes.values())

  def active_shapes(self) -> list[LaneShape]:
    """The shapes of the lanes that have answers.

    Lanes that have grown and are empty are closed: the next answer need not decode all their rows.
    """
    for shape, lane in list(self._lanes.items()):
      if lane.is_empty and lane.rows > self._row_sizes()[0]:
        del self._lanes[shape]
    return [shape for shape, lane in self._lanes.items() if not lane.is_empty]

  def next_job(self, jobs: Sequence[AnswerJob]) -> AnswerJob | None:
    """The first of the waiting jobs that can begin now.

    A job that needs a lane for which there is no memory keeps later ones from taking that memory.
    """
    for job in jobs:
      if job.prompt is None:
        continue
      lane = self._lane(job.loaded, job.prompt.shape)
      rows = lane.rows_with(job.request.settings.answers)
      if rows is None:
        continue
      if not self._make_room(lane, rows):
        return None
      return job
    return None

  def begin(self, job: AnswerJob, answers: Sequence[RunningAnswer]) -> TokenChunk:
    """The first tokens of the answers of a job that `next_job` gave."""
    if job.prompt is None:
      raise RuntimeError("The job has no prompt.")
    job.lane = job.prompt.shape
    return self._lanes[job.prompt.shape].begin(job.prompt, answers)

  def decode(self, shape: LaneShape) -> tuple[list[RunningAnswer | None], TokenChunk | None]:
    """(who has the rows of a lane, their next tokens).

    A lane with few answers may have got smaller. None instead of tokens if the lane has no answers.
    """
    lane = self._lanes[shape]
    lane.compact()
    owners = [owner if isinstance(owner, RunningAnswer) else None for owner in lane.owners]
    return owners, None if lane.is_empty else lane.decode()

  def free(self, job: AnswerJob) -> None:
    """Frees the rows of all answers of a job."""
    for answer in job.answers:
      self.free_answer(answer)

  def free_answer(self, answer: RunningAnswer) -> None:
    """Frees the row of an answer, if it has one."""
    lane = self._lanes.get(answer.job.lane) if answer.job.lane else None
    if lane is not None and answer in lane.owners:
      lane.free(lane.owners.index(answer))

  def drop(self, shape: LaneShape) -> set[AnswerJob]:
    """Closes a lane; returns the jobs that had rows in it."""
    lane = self._lanes.pop(shape, None)
    if lane is None:
      return set()
    return {answer.job for answer in lane.owners if isinstance(answer, RunningAnswer)}

  def _lane(self, loaded: LoadedModel, shape: LaneShape) -> Lane:
    if shape not in self._lanes:
      self._lanes[shape] = Lane(loaded, shape, self._row_sizes())
    if shape not in self._row_bytes:
      self._row_bytes[shape] = row_bytes(loaded, shape)
    return self._lanes[shape]

  def _row_sizes(self) -> tuple[int, ...]:
    """The numbers of rows that a lane can have."""
    largest = self._limits.batch
    if self._fixed_batch:
      return (largest,)
    sizes = []
    size = 1
    while size < largest:
      sizes.append(size)
      size *= _GROWTH
    return (*sizes, largest)

  def _make_room(self, lane: Lane, rows: int) -> bool:
    """Makes room for rows of a lane; False if there is none.

    A lane of its own is always possible, so that no request waits for ever.
    """
    needed = rows * self._row_bytes[lane.shape]
    others = [other for other in self._lanes.values() if other is not lane]
    for other in others:
      if self._held_bytes(others) + needed <= self._limits.kv_bytes:
        return True
      if other.is_empty:
        del self._lanes[other.shape]
        others = [remaining for remaining in others if remaining is not other]
    if self._held_bytes(others) + needed <= self._limits.kv_bytes:
      return True
    return not others and (lane.is_empty or rows == lane.rows)

  def _held_bytes(self, lanes: Sequence[Lane]) -> int:
    return sum(lane.rows * self._row_bytes[lane.shape] for lane in lanes)
