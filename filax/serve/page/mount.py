# SPDX-License-Identifier: Apache-2.0
"""Mounts the web page at / of the server's application."""

from collections.abc import Callable, Mapping, Sequence
import json
import os
import pathlib
import re
from typing import Any
import urllib.parse

from filax.serve.connection import read_json
from filax.serve.engine import Engine
from filax.serve.limits import ServingLimits
from filax.serve.page.actions import PageActions
from filax.serve.page.examples import PageExample, find_examples
from filax.serve.page.talks import PickedVideo
from filax.serve.requests import RequestError
from filax.serve.uploads import UploadStore

# The routes of gradio that the page uses. Others take or give files, fetch addresses or edit code,
# past the limits of the server, and are not served.
USED = re.compile(
  r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/.+"
  r"|/gradio_api/(queue/(join|data)|cancel|reset|app_id|startup-events|theme\.css)/?"
)
EVENT = "/gradio_api/queue/join"  # What a page sends when something is clicked.
STREAM = "/gradio_api/queue/data"  # What a page receives while it waits for something.
LONGEST_NAME = 100  # Letters.
PLAIN = str | int | float | bool | None


def mount_page(app: Any, engine: Engine, limits: ServingLimits, uploads: UploadStore) -> None:
  """Adds the page to a FastAPI application, below its routes.

  Raises ModuleNotFoundError without gradio.
  """
  os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Read while gradio is imported.
  # Its own default is one folder for all users of a machine, which may be another user's.
  os.environ.setdefault("GRADIO_TEMP_DIR", str(uploads.folder / "gradio"))
  import gradio as gr

  from filax.serve.page.layout import PageLayout, page_text

  source = engine.session.processor.source
  examples = find_examples(source)
  _add_examples(app, examples)

  def find_video(kind: str, key: str, name: str) -> PickedVideo:
    if kind == "upload":
      path = str(uploads.path_of(key))
      return PickedVideo(path, name[:LONGEST_NAME] or "The video", is_lasting=False)
    example = _example_at(examples, key)
    return PickedVideo(str(example.path), example.file_name)

  actions = PageActions(engine, find_video)
  layout = PageLayout(actions, engine.session, limits, examples, pathlib.PurePath(source).name)
  fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
  theme = gr.themes.Default(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"])
  gr.mount_gradio_app(
    app,
    layout.blocks,
    path="/",
    theme=theme,
    css=page_text("page.css"),
    footer_links=[],
    ssr_mode=False,  # That would need Node.
    show_error=True,
  )
  mounted = app.routes[-1]
  counts = {number: len(event.inputs) for number, event in layout.blocks.fns.items()}
  mounted.app = UsedRoutes(mounted.app, counts, actions.stop_answer)


def _example_at(examples: Sequence[PageExample], key: str) -> PageExample:
  """The example with a number. Raises RequestError if there is none."""
  if key not in map(str, range(len(examples))):
    raise RequestError("There is no such example.", status=404, code="not_found")
  return examples[int(key)]


def _add_examples(app: Any, examples: Sequence[PageExample]) -> None:
  """A route for the videos of the examples."""
  from fastapi.responses import FileResponse

  @app.get("/page/examples/{number}", include_in_schema=False)
  def example_video(number: str) -> FileResponse:
    return FileResponse(_example_at(examples, number).path, media_type="video/mp4")


class UsedRoutes:
  """ASGI application that serves only the routes that the page uses.

  counts: how many values an event takes, by its number. stop_answer: called with the id of a page
  that was closed while it waited for something. (gradio would tell it of any page, but for that
  each open page keeps a connection, of which a browser has six: the sixth page would not open.)
  """

  def __init__(self, app: Any, counts: Mapping[int, int], stop_answer: Callable[[str], None]):
    self._app = app
    self._counts = counts
    self._stop_answer = stop_answer

  async def __call__(self, scope, receive, send) -> None:
    from starlette.responses import JSONResponse

    if scope["type"] != "http" or not USED.fullmatch(scope["path"]):
      error = dict(message="There is nothing here.", code="not_found")
      reply = JSONResponse(dict(error=error), status_code=404)
      await reply(scope, receive, send)
      return
    if scope["path"].rstrip("/") == EVENT:
      receive = await _with_plain_values(scope, receive, self._counts)
    await self._app(scope, self._watched(scope, receive), send)

  def _watched(self, scope, receive):
    """`receive` of a request, which notices that a page leaves its stream."""
    if scope["path"] != STREAM:
      return receive
    query = urllib.parse.parse_qs(scope["query_string"].decode("latin-1"))

    async def receive_or_stop() -> dict[str, Any]:
      message = await receive()
      if message["type"] == "http.disconnect":
        for page in query.get("session_hash", ()):
          self._stop_answer(page)
      return message

    return receive_or_stop


async def _with_plain_values(scope, receive, counts: Mapping[int, int]) -> Any:
  """`receive` of an event's request, once its number and values are checked.

  The values are texts, numbers, truth values and null. gradio takes other values for files: it
  would copy any file of this machine that a client names, or fetch one from any address. Raises
  RequestError.
  """
  from starlette.requests import Request

  event = await read_json(Request(scope, receive))
  values = event.get("data") if isinstance(event, Mapping) else None
  if not isinstance(values, list) or not all(isinstance(value, PLAIN) for value in values):
    raise RequestError("The values of an event must be texts, numbers, true, false or null.")
  number = event.get("fn_index")
  if type(number) is not int or counts.get(number) != len(values):
    raise RequestError("This page is not the one that the server has now. Load it again.")
  content = json.dumps(event).encode()  # gradio reads exactly what was checked.
  left = [{"type": "http.request", "body": content, "more_body": False}]

  async def receive_checked() -> dict[str, Any]:
    return left.pop() if left else await receive()

  return receive_checked
