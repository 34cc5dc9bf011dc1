# SPDX-License-Identifier: Apache-2.0
"""Loads a checkpoint for inference."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import os
from typing import Any

from etils import epath
import jax
from jaxtyping import Array, Float, PyTree

from data_pipelines.text import tokenizer_folder, tokenizers
from filax import compilation_cache, files
from filax.checkpoint import coded, config_changes, safe_files, steps, storage, store
from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.checkpoint.tuples import as_tuples
from filax.infer import text_only
from filax.infer.chat import Conversation, StreamedAnswer
from filax.infer.device_mesh import make_device_mesh
from filax.infer.generate import Generated, generate
from filax.infer.live import LiveSession
from filax.infer.loaded import LoadedModel
from filax.infer.pair import PairedModel
from filax.infer.processor import Processor
from filax.infer.scenes import SelectedScene, find_scenes
from filax.infer.video import VideoSource
from filax.models.adapted import SAME, Adaptation
from filax.models.components import (
  ROLES,
  build_video_lm,
  check_components,
  dense_kernels,
  dims_table,
  parameter_shapes,
)
from filax.models.layers_apart import answering_params
from filax.models.quantised import KINDS
from filax.models.video_lm import VideoLM
from filax.parallel import rules
from filax.parallel.mesh import without_mesh

DTYPES = ("float32", "bfloat16", "float16")


class Session(LoadedModel):
  """A loaded checkpoint that answers questions: its model, params and processor.

    session = filax.load("runs/demo/stage2")
    print(session.ask("lecture.mp4", "When is the proof finished?"))

  A video is a path, whose frames are sampled as config.infer.sampling says, or a DecodedVideo of
  read_video. `model, params = session` unpacks a session.
  """

  def __iter__(self) -> Iterator:
    yield PairedModel.of(self.model, self.processor)
    yield self.params

  def conversation(
    self, video: VideoSource | None, encode_cache: str | os.PathLike[str] = ""
  ) -> Conversation:
    """A conversation about a video, or without one (None).

    The video is encoded once, for all questions.
    """
    return Conversation(self, video, encode_cache)

  def ask(self, video: VideoSource | None, text: str, *, seed: int = 0, **settings: Any) -> str:
    """The answer to a question about a video, or without one (None).

    settings: max_new_tokens, temperature (0 is greedy), top_p, top_k, min_p, repetition_penalty and
    stop_strings, as in Conversation.ask. A setting that is None or absent has its value of
    config.infer. Raises ValueError, with one sentence, if the video cannot be read.
    """
    return self.conversation(video).ask(text, seed=seed, **settings).text

  def stream(
    self, video: VideoSource, text: str, *, seed: int = 0, **settings: Any
  ) -> StreamedAnswer:
    """The answer of `ask` piece by piece, while it is generated.

    for piece in session.stream("lecture.mp4", "When is the proof finished?"):
      print(piece, end="", flush=True)
    """
    return self.conversation(video).stream(text, seed=seed, **settings)

  def live(self, **settings: Any) -> LiveSession:
    """A session about a video that is still being recorded (filax.infer.live.LiveSession).

    settings: its budget (tokens or memory), drop and room.
    """
    return LiveSession(self, **settings)

  def scenes(
    self,
    video: VideoSource,
    count: int | None = None,
    *,
    selector: str | None = None,
  ) -> list[SelectedScene]:
    """The scenes of a video in time order (filax.infer.scenes.find_scenes)."""
    return find_scenes(self, video, count, selector=selector)

  def generate(
    self,
    prompts: Sequence[Sequence[int]],
    *,
    table: Float[Array, "B M D"] | None = None,
    visual_index: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
    **settings: Any,
  ) -> Generated:
    """Continues prompts of token ids (filax.infer.generate.generate).

    `settings` that are None or absent come from config.infer.
    """
    return generate(
      self.model,
      self.params,
      prompts,
      table=table,
      visual_index=visual_index,
      seed=seed,
      mesh=self.processor.mesh,
      **self.processor.settings(**settings),
    )


@without_mesh()
def load(
  path: epath.PathLike,
  *,
  mesh: Mapping[str, int] | str | None = None,
  param_dtype: str = "",
  dtype: str = "",
  quantise: str = "",
  components: Sequence[str] = (),
) -> Session:
  """Loads a run folder, or one of its checkpoints, for inference.

    session = filax.load("runs/demo/stage2")
    print(session.ask("lecture.mp4", "When is the proof finished?"))

  mesh: the sizes of mesh axes, such as dict(tensor=4), to shard the parameters over several
  devices, or the name of a layout of all devices (filax.infer.device_mesh). Default: the first
  device.
  dtype: the dtype of parameters and computation. Default: as in the config.
  param_dtype: the dtype of parameters; "bfloat16" halves their memory. Default: as in training.
  quantise: "int8" or "nf4" stores the kernels of all blocks in 8 or 4 bits.
  components: modules from which the checkpoint's config may import custom components, such as
  ["my_lab"]. No other code is imported.

  A checkpoint of a language model alone answers questions without a video. On a CPU and on one GPU,
  each layer of the llm has its own arrays of parameters (filax.models.layers_apart).

  Raises OSError if the checkpoint cannot be read, and ValueError if a parameter is missing, or if
  the tokenizer is missing or has more ids than the model.
  """
  compilation_cache.enable()
  source = str(path)
  path = epath.Path(files.absolute(path))
  storage.check_readable(path)
  for step in steps.steps_to_try(path):
    safe_files.check_checkpoint(step)  # Not of all steps: a run may keep thousands.
    with contextlib.suppress(store.NoCheckpoint):  # It is damaged, or its run has removed it.
      model, params, processor = _load_step(step, mesh, param_dtype, dtype, quantise, components)
      return Session(model, params, dataclasses.replace(processor, source=source))
  raise store.no_checkpoint(path)


def _load_step(
  path: epath.Path,
  mesh: Mapping[str, int] | str | None,
  param_dtype: str,
  dtype: str,
  quantise: str,
  components: Sequence[str],
) -> tuple[VideoLM, PyTree, Processor]:
  """`load` of one step.

  Raises store.NoCheckpoint if it cannot be read.
  """
  config = _answering_config(path, components)
  config["model"] = _with_dtypes(config["model"], dtype, param_dtype)
  only_text = text_only.is_text_only(config["model"])
  if only_text:
    config["model"] = text_only.with_placeholders(config["model"])
    config["infer"] = dict(config["infer"], selector=text_only.placeholder_selector())
  model = build_video_lm(config["model"], config["infer"]["selector"])
  model.check_parts()
  tokenizer = find_tokenizer(path, config["data"]["tokenizer"])
  tokenizers.check_vocabulary(tokenizer, model.vocab)
  device_mesh = make_device_mesh(mesh, config["model"])
  roles = ("llm",) if only_text else ROLES
  params = restore_params(path, config["model"], model, device_mesh, quantise, roles)
  params = answering_params(params, device_mesh, free=True)
  processor = Processor(tokenizer, config["data"], config["infer"], device_mesh, step=str(path))
  return model, params, processor


def _with_dtypes(model: Mapping[str, Any], dtype: str, param_dtype: str) -> dict[str, Any]:
  """config.model with other dtypes; "" keeps the dtype of the config.

  Raises ValueError for an unknown dtype.
  """
  changes = {}
  if dtype:
    changes = dict(dtype=dtype, param_dtype=dtype)
  if param_dtype:
    changes["param_dtype"] = param_dtype
  for name in changes.values():
    if name not in DTYPES:
      raise ValueError(f"dtype={name!r} cannot be used. Set it to {' or '.join(DTYPES)}.")
  return dict(model) | changes


def _answering_config(path: epath.Path, components: Sequence[str]) -> dict[str, Any]:
  """The config of a checkpoint.

  Raises ValueError if it names unknown code or lacks a section.
  """
  stored = store.read_config(path)
  edited = config_changes.edits(path, stored, ("model", "infer", "data"))
  if edited:
    store.say(
      f"The config.json of this run differs from the config of {path}, which counts: "
      f"{', '.join(edited)}. A checkpoint answers with the config that it was trained with."
    )
  config = as_tuples(stored)
  check_components(config, components, f"The config of {path}")
  for section in ("model", "infer", "data"):
    if not isinstance(config.get(section), Mapping):
      raise ValueError(f"The config of {path} has no section {section!r}, so it cannot answer.")
  return config


def restore_params(
  path: epath.PathLike,
  config: Mapping[str, Any],
  model: VideoLM,
  mesh: jax.sharding.Mesh | None = None,
  quantise: str = "",
  roles: Sequence[str] = ROLES,
) -> PyTree:
  """Restores the parameters of the roles of `model`, sharded over `mesh`.

  quantise: int8 or nf4, for the kernels of all blocks. Raises ValueError for a missing parameter.
  """
  if quantise and quantise not in KINDS:
    raise ValueError(f"quantise={quantise!r} cannot be used. Set it to {' or '.join(KINDS)}.")
  kernels = {}
  if quantise:
    for name, kernel in dense_kernels(model).items():
      if name.split("/")[0] in roles:
        kernels[name] = kernel
  adaptation = Adaptation(kernels, {}, kind=quantise or SAME)
  of_roles = {role: tree for role, tree in parameter_shapes(model).items() if role in roles}
  shapes = adaptation.shapes(of_roles)
  if mesh is not None:
    layout = rules.parameter_shardings(dims_table(config), shapes, mesh)
    shapes = jax.tree.map(_with_sharding, shapes, layout)
  leaves, missing, _ = coded.read_coded(path, flatten_tree(shapes), adaptation.coded, quantise)
  if missing:
    raise ValueError(
      f"The checkpoint in {path} lacks {len(missing)} parameters of its own config.model, such as "
      f"{missing[0]}. It was written with another version of a component; train or convert anew."
    )
  return unflatten_tree(leaves)


def _with_sharding(
  leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding
) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def find_tokenizer(path: epath.PathLike, configured: str) -> tokenizers.Tokenizer:
  """Loads the tokenizer beside a run, or else the configured one.

  Raises ValueError if neither exists.
  """
  path = epath.Path(files.absolute(path))
  for folder in (path, path.parent, path.parent.parent):  # A run, checkpoints/, checkpoints/<step>.
    tokenizer = tokenizer_folder.load_if_present(folder)
    if tokenizer is not None:
      return tokenizer
    if (folder / store.FOLDER).exists():
      break
  if configured and epath.Path(configured).exists():
    return tokenizers.load_tokenizer(configured)
  raise ValueError(
    f"The checkpoint in {path} has no tokenizer beside it, and config.data.tokenizer="
    f"{configured!r} does not exist here. Copy the tokenizer.json or *.model that it was trained "
    f"with to {folder}."
  )
