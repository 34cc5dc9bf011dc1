# SPDX-License-Identifier: Apache-2.0
"""A checkpoint as a model that answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
import jax
from jaxtyping import PyTree

from data_pipelines.text import tokenizers
from filax import files
from filax.checkpoint import safe_files, store
from filax.infer.processor import Processor
from filax.models.components import build_video_lm, check_components, dims_table, parameter_shapes
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules


def load(
  path: epath.PathLike,
  *,
  mesh: Mapping[str, int] | None = None,
  param_dtype: str = "",
  components: Sequence[str] = (),
) -> tuple[Any, PyTree]:
  """(model, params) of a run folder, or of one of its checkpoints; parameters alone are read.

    model, params = filax.load("runs/demo/stage2")
    video = filax.read_video("lecture.mp4", frames=256, size=model.encoder.size)
    print(filax.chat(model, params, video, "When is the proof finished?"))

  The model selects frames as config.infer.selector says and knows its tokenizer and templates
  (model.processor). `mesh`: sizes of mesh axes, e.g. dict(tensor=4), to spread the parameters over
  several devices; default: the first device. `param_dtype`: "bfloat16" halves what they take;
  default: as they were trained. `components`: modules that the checkpoint's config may name for
  components of its own, such as ["my_lab"]; no other code is imported. Raises OSError if there is
  no readable checkpoint, ValueError if its tokenizer is missing or has more ids than the model, or
  a leaf is missing.
  """
  source = str(path)
  path = epath.Path(files.absolute(path))
  safe_files.check_checkpoint(path)
  config = tuples(store.read_config(path))
  check_components(config, components, f"The config of {path}")
  if absent := [
    key for key in ("model", "infer", "data") if not isinstance(config.get(key), Mapping)
  ]:
    raise ValueError(f"The config of {path} has no section {absent[0]!r}, so it cannot answer.")
  if param_dtype:
    config["model"] = config["model"] | dict(param_dtype=param_dtype)
  model = build_video_lm(config["model"], config["infer"]["selector"])
  model.check()
  tokenizer = find_tokenizer(path, config["data"]["tokenizer"])
  tokenizers.check_vocabulary(tokenizer, model.vocab)
  made = None if mesh is None else mesh_lib.make(mesh)
  params = restore(path, config["model"], model, made)
  processor = Processor(tokenizer, config["data"], config["infer"], made, source)
  return model.clone(processor=processor), params


def restore(path: epath.PathLike, config: Mapping[str, Any], model, mesh=None) -> PyTree:
  """The parameters of `model`, laid out on `mesh`. Raises ValueError if one is missing."""
  like = parameter_shapes(model)
  if mesh is not None:
    layout = rules.parameter_shardings(dims_table(config), like, mesh)
    like = jax.tree.map(
      lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), like, layout
    )
  params, missing, _ = store.restore_params(path, like)
  if missing:
    raise ValueError(
      f"The checkpoint in {path} lacks {len(missing)} parameters of its own config.model, such as "
      f"{missing[0]}. It was written with another version of a component; train or convert anew."
    )
  return params


def find_tokenizer(path: epath.PathLike, given: str) -> tokenizers.Tokenizer:
  """The tokenizer beside a run, or else the file its config names. Raises ValueError if neither
  exists."""
  path = epath.Path(files.absolute(path))
  for folder in (path, path.parent, path.parent.parent):  # A run, checkpoints/, checkpoints/<step>.
    if any(folder.glob("tokenizer.json")) or any(folder.glob("*.model")):
      return tokenizers.load(folder)
    if (folder / store.FOLDER).exists():
      break
  if given and epath.Path(given).exists():
    return tokenizers.load(given)
  raise ValueError(
    f"The checkpoint in {path} has no tokenizer beside it, and config.data.tokenizer={given!r} "
    f"does not exist here. Copy the tokenizer.json or *.model that it was trained with to "
    f"{folder}."
  )


def tuples(value: Any) -> Any:
  """JSON's lists as tuples, as the config had them: fields of a model must be hashable."""
  if isinstance(value, Mapping):
    return {key: tuples(item) for key, item in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list) else value
