# SPDX-License-Identifier: Apache-2.0
"""The server with its web page in a thread, beside a small demo."""

import contextlib
import json
import pathlib
import threading
import time

import uvicorn

import filax
from filax.serve.app import ChatServer, build_app
from filax.serve.engine import Engine
from filax.serve.guard import GuardRules
from filax.serve.limits import ServingLimits
from filax.serve.media_sources import MediaSources
from filax.serve.page import mount_page
from filax.serve.remote_media import RemoteMedia
from filax.serve.uploads import UploadStore
from filax.testing import clips, tiny_checkpoint

LONG_ANSWER = 30_000  # Tokens: no browser is so slow that it ends before a click on "Stop".
LIMITS = ServingLimits(batch=1, decode_seconds=30.0, answer_tokens=LONG_ANSWER)


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
  return tiny_checkpoint.write_checkpoint(folder / "stage2", **{"model.llm.positions": 32768})


def page_app(session, folder: pathlib.Path, key: str = ""):
  """The application with the page, and its engine."""
  engine = Engine(session, LIMITS)
  uploads = UploadStore(LIMITS.upload_bytes, LIMITS.upload_seconds, str(folder / "uploads"))
  remote = RemoteMedia((), LIMITS.body_bytes, LIMITS.fetch_seconds)
  server = ChatServer(engine, MediaSources(uploads, remote, ""), uploads, "stage2")
  app = build_app(server, GuardRules(key), stop_seconds=5.0)
  mount_page(app, engine, LIMITS, uploads)
  return app


@contextlib.contextmanager
def serve_page(folder: pathlib.Path):
  """Serves the page; gives its address."""
  app = page_app(filax.load(write_demo(folder)), folder)
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
