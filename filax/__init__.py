# SPDX-License-Identifier: Apache-2.0
"""FiLax: long-video multimodal LLMs in JAX.

Names load on first use, so importing costs nothing.

A checkpoint answers questions about videos:

  import filax

  session = filax.load("runs/demo/stage2")  # A run, one of its checkpoints, or a released folder.
  print(session.ask("lecture.mp4", "What shape is on red?"))
  talk = session.conversation("lecture.mp4")  # Encodes the video once, for several questions.
  print(talk.ask("What shape is on red?").text)
  print(talk.ask("And on blue?").text)
  scenes = session.scenes("lecture.mp4", count=2)  # .time and .thumbnail of each
  report = filax.evaluate(session, "questions.json", limit=50)
  video = session.read_video("lecture.mp4")
  visual = session.model.apply({"params": session.params}, **video.batch(), method="embed")
"""

import importlib

from filax import virtual_devices

TYPE_CHECKING = False  # As in typing, whose import would make every command start later.
if TYPE_CHECKING:  # What editors and type checkers know of the names below.
  from filax.evals.run import evaluate as evaluate
  from filax.infer.pair import chat as chat
  from filax.infer.pair import generate as generate
  from filax.infer.pair import scenes as scenes
  from filax.infer.session import Session as Session
  from filax.infer.video import DecodedVideo as DecodedVideo
  from filax.infer.video import read_video as read_video
  from filax.models.components import build as build
  from filax.models.components import build_video_lm as build_video_lm
  from filax.models.video_lm import VideoLM as VideoLM
  from filax.models.video_lm import Visual as Visual
  from filax.released import load as load
  from filax.training import load_config as load_config
  from filax.training import run_training as run_training

  __version__: str

_NAMES = {  # public name -> module
  "build": "filax.models.components",
  "build_video_lm": "filax.models.components",
  "VideoLM": "filax.models.video_lm",
  "Visual": "filax.models.video_lm",
  "Session": "filax.infer.session",
  "load": "filax.released",
  "DecodedVideo": "filax.infer.video",
  "read_video": "filax.infer.video",
  "evaluate": "filax.evals.run",
  "load_config": "filax.training",
  "run_training": "filax.training",
  "chat": "filax.infer.pair",  # These three take (model, params); kept for one release.
  "generate": "filax.infer.pair",
  "scenes": "filax.infer.pair",
}
__all__ = sorted(_NAMES)

virtual_devices.give_threads()  # Before JAX makes its devices.


if not TYPE_CHECKING:  # A type checker would take any name for a public one.

  def __getattr__(name):
    if name == "__version__":
      return importlib.import_module("filax.cli.main").version()
    if name not in _NAMES:
      raise AttributeError(f"filax has no {name!r}. It offers {', '.join(__all__)}.")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
  return __all__
