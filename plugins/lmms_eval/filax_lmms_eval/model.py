# SPDX-License-Identifier: Apache-2.0
"""The model `filax` of lmms-eval."""

import atexit
from collections.abc import Callable, Iterator, Sequence
import os
import tempfile
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from filax_lmms_eval.visuals import request_media
from filax_lmms_eval.worker_process import FilaxWorker

MOST_PICTURES = 512  # Pictures on disk at a time.
SHOWN_ERRORS = 5


class FilaxModel(lmms):
  """A FiLax checkpoint, answered by a process of FiLax's own environment."""

  is_simple = True

  def __init__(
    self,
    checkpoint: str,
    frames: int | None = None,
    selector: str = "",
    dropout: str = "",
    yarn: float | None = None,
    mesh: str = "",
    dtype: str = "",
    components: str = "",
    batch: int = 32,
    threads: int = 2,
    python: str = "",
    batch_size: Any = None,
    max_batch_size: Any = None,
    device: Any = None,
  ):
    """Starts the worker; the arguments are those of `--model_args` (README.md).

    batch_size, max_batch_size and device are lmms-eval's own and change nothing.
    """
    super().__init__()
    del batch_size, max_batch_size, device
    options = {
      "--checkpoint": os.path.expanduser(checkpoint),
      "--frames": frames,
      "--selector": selector,
      "--dropout": dropout,
      "--yarn": yarn,
      "--mesh": str(mesh).replace(";", ","),
      "--dtype": dtype,
      "--batch": batch,
      "--threads": threads,
    }
    words = []
    for name, value in options.items():
      if value not in ("", None):
        words.append(f"{name}={value}")
    for module in str(components).split(";"):
      if module:
        words.append(f"--components={module}")
    self._worker = FilaxWorker(words, python)
    atexit.register(self._worker.close)
    logger.info(f"FiLax answers with {self._worker.description}")

  def generate_until(self, requests: list[Instance]) -> list[str]:
    """An answer to every request, in their order.

    A request that cannot be answered is logged and gets "". Raises RuntimeError if none can.
    """
    answers: dict[int, str] = {}
    errors: list[str] = []
    with tqdm(total=len(requests), desc="FiLax answers") as progress:
      for number, reply in self._numbered_replies(requests):
        if "error" in reply:
          errors.append(f"{_place(requests[number])}: {reply['error']}")
        else:
          context, settings = requests[number].args[:2]
          self.cache_hook.add_partial("generate_until", (context, settings), reply["answer"])
        answers[number] = reply.get("answer", "")
        progress.update()
    _report_errors(errors, len(requests))
    return [answers[number] for number in range(len(requests))]

  def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
    """Not offered."""
    raise NotImplementedError("The model filax generates answers; it gives no likelihoods.")

  def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
    """Not offered."""
    raise NotImplementedError("The model filax answers one round.")

  def clean(self) -> None:
    """Ends the worker."""
    self._worker.close()
    super().clean()

  def _numbered_replies(self, requests: Sequence[Instance]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the request, reply), in any order.

    All requests go out together, so that the worker encodes a video once for all of them; those
    with pictures go out as often as the folder of pictures is full.
    """
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
      for number, request in enumerate(requests):
        try:
          records.append(self._record(number, request, folder))
        except ValueError as error:
          yield number, dict(error=str(error))
        if len(os.listdir(folder)) >= MOST_PICTURES:
          yield from self._answered(records)
          records = []
          for picture in os.scandir(folder):
            os.unlink(picture)
      yield from self._answered(records)

  def _answered(self, records: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    if records:
      for reply in self._worker.replies(records):
        yield reply["id"], reply

  def _record(self, number: int, request: Instance, folder: str) -> dict[str, Any]:
    """A request as the worker reads it. Raises ValueError for visuals of another kind."""
    context, settings, doc_to_visual, doc_id, task, split = request.args
    visuals = _visuals(doc_to_visual, self.task_dict[task][split][doc_id])
    media = request_media(visuals, folder)
    return dict(id=number, prompt=context, media=media, **_worker_settings(settings))


def _worker_settings(settings: dict[str, Any]) -> dict[str, Any]:
  """gen_kwargs of a task as settings of a request; greedy unless they say otherwise.

  `until` is not among them: lmms-eval adds a blank line to it, at which published answers do not
  stop. Raises ValueError for beam search.
  """
  if settings.get("num_beams") not in (None, 1):
    raise ValueError(f"num_beams={settings['num_beams']} is not offered; FiLax has no beam search.")
  chosen: dict[str, Any] = dict(temperature=0)
  if settings.get("max_new_tokens") is not None:
    chosen["max_new_tokens"] = settings["max_new_tokens"]
  is_greedy = settings.get("do_sample") is False or not settings.get("temperature")
  if not is_greedy:
    chosen["temperature"] = settings["temperature"]
    if settings.get("top_p") is not None:
      chosen["top_p"] = settings["top_p"]
  return chosen


def _visuals(doc_to_visual: Callable | None, doc: Any) -> Any:
  return doc_to_visual(doc) if callable(doc_to_visual) else []


def _place(request: Instance) -> str:
  """A request by name, for errors."""
  *_, doc_id, task, split = request.args
  return f"{task} {split} {doc_id}"


def _report_errors(errors: Sequence[str], requests: int) -> None:
  """Logs failed requests. Raises RuntimeError if none was answered."""
  if not errors:
    return
  text = "; ".join(errors[:SHOWN_ERRORS])
  if len(errors) == requests:
    raise RuntimeError(f"FiLax could answer none of {requests} requests: {text}")
  logger.warning(f"{len(errors)} of {requests} requests count as empty answers: {text}")
