# SPDX-License-Identifier: Apache-2.0
"""The page in gradio: its parts, and which action each event starts."""

from collections.abc import AsyncIterator, Mapping, Sequence
import importlib.resources
from typing import Any

import gradio as gr

from filax.evals.html_page import Markup, element, markup
from filax.infer.loaded import LoadedModel
from filax.models.components import available
from filax.serve.limits import ServingLimits
from filax.serve.page import drawings
from filax.serve.page.actions import PageActions, PageControls, PageUpdate
from filax.serve.page.examples import PageExample
from filax.serve.page.looks import LookSettings
from filax.spec import dropout_stages

TITLE = "FiLax"
PRIVATE = "private"  # The events are not an API; that is /v1.
DEFAULT = "as in the checkpoint"


def page_text(name: str) -> str:
  """The text of a file that lies beside this module."""
  path = importlib.resources.files("filax.serve.page") / name
  return path.read_text(encoding="utf-8")


class PageLayout:
  """The gradio page.

  `blocks` is what gradio mounts. Every event changes parts by a PageUpdate.
  """

  def __init__(
    self,
    actions: PageActions,
    loaded: LoadedModel,
    limits: ServingLimits,
    examples: Sequence[PageExample],
    model_name: str,
  ):
    self._actions = actions
    self._examples = examples
    with gr.Blocks(title=TITLE, analytics_enabled=False) as self.blocks:
      _html(_heading(model_name), elem_classes="filax-title")
      with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
          self.player = _player(examples)
          self.strip = _html()
          self.status = _html()
        with gr.Column(scale=5, min_width=320):
          self._add_chat()
          self._add_controls(loaded, limits)
          self.phases = _html()
      self.sheets = _html()
      self._connect()

  def _add_chat(self) -> None:
    self.chat = gr.Chatbot(
      label="Answers",
      height=330,
      render_markdown=False,  # A model's Markdown could load pictures from anywhere.
      latex_delimiters=[],
      allow_tags=False,
      placeholder="Choose a video, then ask about it.",
      buttons=[],
      elem_id="chat",
    )
    self.question = gr.Textbox(
      placeholder="What happens in the video?",
      show_label=False,
      container=False,
      max_lines=6,
      elem_id="question",
    )
    with gr.Row():
      self.ask = gr.Button("Ask", variant="primary", elem_id="ask", min_width=90)
      self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop", min_width=90)
      self.anew = gr.Button("Start over", elem_id="anew", min_width=90)

  def _add_controls(self, loaded: LoadedModel, limits: ServingLimits) -> None:
    infer = loaded.processor.infer
    with gr.Accordion("Settings", open=False, elem_id="settings"):
      with gr.Row():
        self.selector = gr.Dropdown(
          _selectors(loaded), value="", label="Selector", elem_id="selector", min_width=150
        )
        self.dropout = gr.Dropdown(
          _dropouts(loaded),
          value="",
          label="Visual dropout",
          info="a preset, or layer:kind:ratio,...",
          allow_custom_value=True,
          elem_id="dropout",
          min_width=150,
        )
      with gr.Row():
        self.frames = gr.Number(
          infer["sampling"].get("frames"),
          label="Most frames read",
          precision=0,
          minimum=1,
          maximum=limits.frames,
          elem_id="frames",
          min_width=120,
        )
        self.tokens = gr.Number(
          infer["max_new_tokens"],
          label="Most new tokens",
          precision=0,
          minimum=1,
          maximum=limits.answer_tokens,
          elem_id="tokens",
          min_width=120,
        )
        self.temperature = gr.Number(
          infer["temperature"], label="Temperature", minimum=0, min_width=120
        )
      self.attention = gr.Checkbox(True, label="Measure which frames an answer looked at")
    self._default_frames = infer["sampling"].get("frames")

  def _connect(self) -> None:
    """Connects events with actions."""
    controls: list[Any] = [
      self.selector,
      self.dropout,
      self.frames,
      self.tokens,
      self.temperature,
      self.attention,
    ]
    options: dict[str, Any] = dict(
      outputs=self._outputs(),
      show_progress="hidden",
      api_visibility=PRIVATE,
      concurrency_limit=None,
      trigger_mode="multiple",
    )
    self.player.chosen(self._on_choose, controls, **options)
    gr.on(
      [self.ask.click, self.question.submit],
      self._on_ask,
      [self.question, *controls],
      **options,
    )
    gr.on([self.anew.click, self.chat.clear], self._on_anew, **options)
    self.stop.click(self._on_stop, **(options | dict(outputs=None)))

  async def _on_choose(self, event: gr.EventData, request: gr.Request, *controls):
    kind = str(event.kind)
    key = str(event.key)
    chosen = (kind, key, str(event.name))
    page = _page_id(request)
    if kind == "example" and key in map(str, range(len(self._examples))):
      question = self._examples[int(key)].question
      yield self._changes(PageUpdate(question=question))
    updates = self._actions.choose_video(page, chosen, self._controls(*controls))
    async for changes in self._all_changes(updates):
      yield changes

  async def _on_ask(self, question: str, request: gr.Request, *controls):
    page = _page_id(request)
    updates = self._actions.ask(page, question or "", self._controls(*controls))
    async for changes in self._all_changes(updates):
      yield changes

  def _on_anew(self, request: gr.Request):
    return self._changes(self._actions.begin_anew(_page_id(request)))

  def _on_stop(self, request: gr.Request) -> None:
    self._actions.stop_answer(_page_id(request))

  def _controls(self, selector, dropout, frames, tokens, temperature, attention) -> PageControls:
    """The controls' values.

    A number of frames that was not changed is left to the checkpoint.
    """
    count = None if frames in (None, self._default_frames) else int(frames)
    look = LookSettings(selector or "", (dropout or "").strip(), count)
    new_tokens = None if tokens is None else int(tokens)
    return PageControls(look, new_tokens, temperature, bool(attention))

  def _outputs(self) -> list[Any]:
    return [
      self.chat,
      self.question,
      self.status,
      self.strip,
      self.sheets,
      self.phases,
      self.ask,
      self.stop,
    ]

  async def _all_changes(self, updates: AsyncIterator[PageUpdate]) -> AsyncIterator[dict[Any, Any]]:
    """`_changes` of updates, then one that changes nothing.

    When a function ends, gradio sends its last values once more. The page may show another video or
    another talk by then, and pictures are megabytes.
    """
    async for update in updates:
      yield self._changes(update)
    yield {self.status: gr.skip()}

  def _changes(self, update: PageUpdate) -> dict[Any, Any]:
    """An update as gradio's values of the parts that change."""
    values = {
      self.chat: None if update.chat is None else escaped_bubbles(update.chat),
      self.question: update.question,
      self.status: update.status,
      self.strip: update.strip,
      self.sheets: update.sheets,
      self.phases: update.phases,
    }
    changes: dict[Any, Any] = {}
    for part, value in values.items():
      if value is not None:
        changes[part] = value
    if update.running is not None:
      changes[self.ask] = gr.update(visible=not update.running)
      changes[self.stop] = gr.update(visible=update.running)
    return changes


def escaped_bubbles(bubbles: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
  """Messages whose text gradio shows as it is.

  Even without Markdown, gradio takes text for HTML: it would drop tags, and with them a part of an
  answer.
  """
  escaped = []
  for bubble in bubbles:
    escaped.append(dict(role=bubble["role"], content=markup(bubble["content"])))
  return escaped


def _page_id(request: gr.Request) -> str:
  """The random id that an open page drew."""
  return str(request.session_hash)


def _html(value: str = "", **options) -> Any:
  """A part made of HTML, with the page's style alone."""
  return gr.HTML(value, apply_default_css=False, **options)


def _heading(model_name: str) -> Markup:
  return Markup(
    element("h1", TITLE, " ", element("span", f"asks {model_name} about videos", class_="faint"))
  )


def _player(examples: Sequence[PageExample]) -> Any:
  """The video, the place to drop a file, and the examples."""
  drop = element(
    "label",
    element("b", "Drop a video here, or click to choose one"),
    element("span", "It stays on this server, for a limited time.", class_="faint"),
    element("input", type="file", accept="video/*,image/gif,.mkv,.avi,.mov,.webm,.ts", id="file"),
    class_="drop",
  )
  buttons = drawings.player_parts([(example.file_name, example.question) for example in examples])
  note = element("p", class_="upload-note", role="status")
  video = element("video", controls="", playsinline="", preload="metadata", id="video")
  return _html(
    Markup("").join([video, drop, note, buttons]),
    js_on_load=page_text("player.js"),
    elem_classes="filax-player",
  )


def _selectors(loaded: LoadedModel) -> list[tuple[str, str]]:
  """(label, value) of the choices."""
  name = loaded.processor.infer["selector"]["name"]
  choices = [(f"{DEFAULT}: {name}", "")]
  for other in available("selector"):
    if other != name:
      choices.append((other, other))
  return choices


def _dropouts(loaded: LoadedModel) -> list[tuple[str, str]]:
  """(label, value) of the presets that suit the llm's depth."""
  choices = [(DEFAULT, "")]
  for preset in dropout_stages.PRESETS:
    try:
      dropout_stages.parse_stages(preset, loaded.model.llm.depth)
    except ValueError:
      continue
    choices.append((preset, preset))
  return choices
