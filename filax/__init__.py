# SPDX-License-Identifier: Apache-2.0
"""FiLax: long-video multimodal LLMs in JAX. Names load on first use; importing costs nothing.

Example:
  import filax

  model, params = filax.load("runs/demo/stage2")  # A run folder, or one of its checkpoints.
  video = filax.read_video("lecture.mp4", frames=256, size=model.encoder.size)
  scenes = filax.scenes(model, params, video, count=2)  # .time and .thumbnail of each
  print(filax.chat(model, params, video, "What shape is on red?"))
  visual = model.apply({"params": params}, **video.batch(), method="embed")  # What the llm sees.
  report = filax.evaluate(model, params, "questions.json", limit=50)
"""

import importlib

_NAMES = {  # public name -> module
  "build": "filax.models.components",
  "build_video_lm": "filax.models.components",
  "VideoLM": "filax.models.video_lm",
  "Visual": "filax.models.video_lm",
  "load": "filax.infer.session",
  "read_video": "filax.infer.video",
  "scenes": "filax.infer.scenes",
  "chat": "filax.infer.chat",
  "generate": "filax.infer.generate",
  "evaluate": "filax.evals.run",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str):
  if name not in _NAMES:
    raise AttributeError(f"filax has no {name!r}. It offers {', '.join(__all__)}.")
  return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__():
  return __all__
