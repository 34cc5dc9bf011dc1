# SPDX-License-Identifier: Apache-2.0
"""A server with the web page in a thread, beside a small demo."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
import contextlib
import json
import pathlib
import queue
import threading
import time

import fastapi
import uvicorn

import filax
from filax.serve.limits import ServingLimits
from filax.serve.page import mount_page
from filax.serve.requests import LENGTH, AnswerPiece, EffectiveVideo, RequestError, Usage
from filax.testing import clips, tiny_checkpoint


class Handle:
  def __init__(self):
    self.pieces = queue.Queue()
    self.cancelled = False
    self.usage = None

  def cancel(self):
    self.cancelled = True

  async def __aiter__(self):
    while True:
      piece = await asyncio.to_thread(self.pieces.get)
      if isinstance(piece, Exception):
        raise piece
      yield piece
      if piece.finish_reason:
        return


class DirectEngine:
  def __init__(self, session):
    self.session = session
    self._device = ThreadPoolExecutor(1)

  def on_device(self, function, *args):
    return self._device.submit(function, *args)

  def submit(self, request):
    handle = Handle()
    self._device.submit(self._answer, request, handle)
    return handle

  def _answer(self, request, handle):
    try:
      medium, question = request.messages[0].parts
      session = self.session
      if request.selector:
        session = session.with_selector(request.selector)
      session = session.adjusted(dropout=request.dropout)
      talk = session.conversation(medium.paths[0])
      streamed = talk.stream(question, max_new_tokens=request.settings.max_new_tokens)
      for piece in streamed:
        if handle.cancelled:
          break
        handle.pieces.put(AnswerPiece(0, piece))
      else:
        answer = streamed.answer
        video = EffectiveVideo(24, 1.0, 0.0, 4.0, 4.0, (), talk.media.tokens, False)
        seconds = dict(queue=0.0, **talk.seconds, **answer.seconds)
        handle.usage = Usage(
          answer.prompt_tokens, talk.media.tokens, answer.tokens, (video,), seconds
        )
      handle.pieces.put(AnswerPiece(0, "", LENGTH))
    except Exception as error:
      handle.pieces.put(RequestError(str(error)))


def write_demo(folder: pathlib.Path) -> str:
  """A checkpoint with the corpus of a demo beside it; returns the checkpoint's folder."""
  corpus = folder / "corpus"
  records = []
  for number in range(3):
    name = f"videos/{number}.mp4"
    clips.write_video(corpus / name, frames=80, first=number * 30)
    question = dict(value="<image>\nWhat shape is on red?")
    records.append(dict(video=name, kind=str(number), conversations=[question]))
  (corpus / "held_out.json").write_text(json.dumps(records))
  return tiny_checkpoint.write_checkpoint(folder / "stage2")


@contextlib.contextmanager
def serve_page(folder: pathlib.Path):
  """Serves the page; gives its address."""
  engine = DirectEngine(filax.load(write_demo(folder)))
  app = fastapi.FastAPI()
  uploads = folder / "uploads"
  uploads.mkdir()

  @app.post("/v1/files")
  def upload(file: fastapi.UploadFile):
    (uploads / file.filename).write_bytes(file.file.read())
    return dict(id=file.filename)

  mount_page(app, engine, ServingLimits(), lambda key: uploads / key)
  config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1)
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run, daemon=True)
  thread.start()
  while not server.started:
    time.sleep(0.01)
  port = server.servers[0].sockets[0].getsockname()[1]
  try:
    yield f"http://127.0.0.1:{port}/"
  finally:
    server.should_exit = True
    thread.join()
