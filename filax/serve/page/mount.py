# SPDX-License-Identifier: Apache-2.0
"""Mounts the web page at / of the server's application."""

from collections.abc import Callable, Sequence
import os
import pathlib
from typing import Any

from filax.serve.engine import Engine
from filax.serve.limits import ServingLimits
from filax.serve.page.actions import PageActions
from filax.serve.page.examples import PageExample, find_examples
from filax.serve.page.talks import PickedVideo
from filax.serve.requests import RequestError

# Routes of gradio that the page does not use. They take or give files, or fetch addresses, past the
# limits of the server, so they are refused.
UNUSED = (
  "/gradio_api/upload",
  "/gradio_api/upload_progress",
  "/gradio_api/file={path:path}",
  "/gradio_api/file/{path:path}",
  "/gradio_api/proxy={path:path}",
  "/gradio_api/stream/{path:path}",
  "/gradio_api/component_server",
  "/gradio_api/process_recording",
  "/gradio_api/deep_link",
)
LONGEST_NAME = 100  # Letters.
METHODS = ["GET", "HEAD", "POST"]


def mount_page(
  app: Any, engine: Engine, limits: ServingLimits, find_upload: Callable[[str], pathlib.Path]
) -> None:
  """Adds the page to a FastAPI application, below all routes that it has.

  find_upload: id of an uploaded file -> its path; raises RequestError. Raises ModuleNotFoundError
  without gradio.
  """
  os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Read while gradio is imported.
  import gradio as gr

  from filax.serve.page.layout import PageLayout, page_text

  source = engine.session.processor.source
  examples = find_examples(source)
  _add_examples(app, examples)
  _refuse_unused(app)

  def find_video(kind: str, key: str, name: str) -> PickedVideo:
    if kind == "upload":
      return PickedVideo(str(find_upload(key)), name[:LONGEST_NAME] or "The video")
    example = _example_at(examples, key)
    return PickedVideo(str(example.path), example.name)

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


def _example_at(examples: Sequence[PageExample], key: str) -> PageExample:
  """The example with a number. Raises RequestError if there is none."""
  if not key.isdecimal() or int(key) >= len(examples):
    raise RequestError("There is no such example.", status=404, code="not_found")
  return examples[int(key)]


def _add_examples(app: Any, examples: Sequence[PageExample]) -> None:
  """A route for the videos of the examples, which browsers may read in parts."""
  from fastapi.responses import FileResponse

  @app.get("/page/examples/{number}", include_in_schema=False)
  def example_video(number: str) -> FileResponse:
    return FileResponse(_example_at(examples, number).path, media_type="video/mp4")


def _refuse_unused(app: Any) -> None:
  from fastapi.responses import JSONResponse

  def refuse() -> JSONResponse:
    message = "The page uploads to /v1/files."
    return JSONResponse({"error": {"message": message, "code": "not_found"}}, status_code=404)

  for path in UNUSED:
    app.add_api_route(path, refuse, methods=METHODS, include_in_schema=False)
