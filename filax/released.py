# SPDX-License-Identifier: Apache-2.0
"""Released folders of PyTorch weights, and GGUF files, in place of a checkpoint.

  session = filax.load("VideoChat-Flash-Qwen2-7B_res448")

A folder in the form of transformers or LLaVA-NeXT, or a language model's .gguf file, is converted
once into the user's cache (filax/convert/conversion_cache.py); from then on its checkpoint is read.
"""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import re
import sys
from typing import TYPE_CHECKING, Any

from filax import files
from filax.checkpoint import run_folder, storage

if TYPE_CHECKING:
  from data_pipelines.text.tokenizer import Tokenizer
  from filax.infer.session import Session

_HUB = re.compile(r"(?:https://huggingface\.co|hf:/)/([\w.-]+/[\w.-]+)(?:/.*)?")


def load(
  path: str | os.PathLike[str],
  *,
  mesh: Mapping[str, int] | str | None = None,
  param_dtype: str = "",
  dtype: str = "",
  quantise: str = "",
  components: Sequence[str] = (),
) -> "Session":
  """Loads a run folder, one of its checkpoints, or a released folder.

    session = filax.load("runs/demo/stage2")
    print(session.ask("lecture.mp4", "When is the proof finished?"))

  Arguments and exceptions are those of filax.infer.session.load, and of `find_checkpoint`. Raises
  ValueError for a released folder that holds only a part of a model, or no tokenizer.
  """
  from filax.infer import session

  checkpoint = find_checkpoint(path, components)
  if is_released(path):
    _check_can_answer(path, checkpoint)
  return session.load(
    checkpoint,
    mesh=mesh,
    param_dtype=param_dtype,
    dtype=dtype,
    quantise=quantise,
    components=components,
  )


def find_checkpoint(path: str | os.PathLike[str], components: Sequence[str] = ()) -> str:
  """The checkpoint of a path: itself, or that of a released folder.

  A released folder is converted unless the cache has it; a line on stderr says so. `components`:
  modules that the config of an export may name. Raises ValueError or OSError with one sentence for
  an address, a folder that cannot be converted, or a cache that cannot be written.
  """
  _check_is_here(path)
  if not is_released(path):
    _check_not_without_weights(path)
    return os.fspath(path)
  from filax.convert import conversion_cache, peft_in

  source = Path(files.absolute(path))
  if peft_in.is_peft(source):
    raise ValueError(
      f"{source} holds adapters of PEFT and no model. `filax convert from --source {source} "
      "--base MODEL --out OUT` makes a checkpoint of them, which is read together with MODEL."
    )

  def convert(entry: Path) -> None:
    _convert_released(source, entry, components)

  return os.fspath(conversion_cache.convert_once(source, convert))


def _check_is_here(path: str | os.PathLike[str]) -> None:
  """Raises ValueError for an address that is not a bucket.

  OSError for a bucket that does not answer.
  """
  text = os.fspath(path)
  name = _HUB.fullmatch(text)
  if name is not None:
    raise ValueError(
      f"{text} is not on this machine. Download it first, and give the folder: hf download "
      f"{name[1]} --local-dir {name[1].partition('/')[2]}"
    )
  files.check_scheme(text)
  storage.check_reachable(text)


def _check_not_without_weights(path: str | os.PathLike[str]) -> None:
  """Raises ValueError for a released folder without its weights."""
  folder = Path(files.absolute(path))
  if files.is_bucket(path) or not folder.is_dir() or run_folder.step_folders(folder):
    return
  from filax.convert import config_in

  kind = config_in.read_config_json(folder).get("model_type")
  if kind is not None:
    raise ValueError(
      f"{folder} has the config.json of a released {kind}, but no *.safetensors, *.bin or *.pt "
      "beside it. Download the whole folder: hf download ORG/NAME --local-dir FOLDER"
    )


def _check_can_answer(source: str | os.PathLike[str], checkpoint: str) -> None:
  """Raises ValueError for a part of a model, or without a tokenizer."""
  from data_pipelines.text import tokenizer_folder
  from filax.checkpoint import store
  from filax.infer import text_only
  from filax.models.components import ROLES

  model = store.read_config(checkpoint)["model"]
  absent = [role for role in ROLES if role not in model]
  if absent and not text_only.is_text_only(model):
    raise ValueError(
      f"{source} has no {' and no '.join(absent)}, so it cannot answer. Join it with the other "
      f"parts by `filax convert from --config F`."
    )
  if tokenizer_folder.load_if_present(Path(checkpoint)) is None:
    raise ValueError(
      f"{source} has no tokenizer. Copy the tokenizer.json or *.model of the released model beside "
      f"its weights."
    )


def described_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
  """The config of a released folder, as far as its config.json tells.

  That of an export of FiLax, otherwise only the parts of the model. Raises ValueError or OSError
  for a config.json that cannot be read.
  """
  from filax.convert import config_in

  config = config_in.read_config_json(Path(folder))
  described = dict(config.get(config_in.KEY, {}))
  if "model" not in described and config_in.config_family(config):
    described["model"] = config_in.architecture(config)
  return described


def described_model(source: str | os.PathLike[str]) -> dict[str, Any]:
  """config.model of a released folder or GGUF file, without a conversion.

  Its vocabulary is that of the file. Raises ValueError or OSError if it cannot be converted.
  """
  from filax.convert.import_inputs import ImportRequest, open_inputs

  _, model = open_inputs(ImportRequest(out="", source=source))
  return model


def cached_checkpoint(path: str | os.PathLike[str]) -> str:
  """As `find_checkpoint`, but nothing is converted: the entry need not exist."""
  if not is_released(path):
    return os.fspath(path)
  from filax.convert import conversion_cache

  return os.fspath(conversion_cache.entry_path(Path(files.absolute(path))))


def is_released(path: str | os.PathLike[str]) -> bool:
  """Whether a path holds PyTorch weights or a GGUF file."""
  from filax.convert.gguf import container

  text = files.absolute(path)
  if "://" in text:
    return False
  folder = Path(text)
  if container.is_gguf(folder) and folder.is_file():
    return True
  if not folder.is_dir():
    return False
  if run_folder.step_folders(folder):
    return False
  from filax.convert import conversion_cache

  return conversion_cache.holds_weights(folder)


def _convert_released(source: Path, entry: Path, components: Sequence[str]) -> None:
  """Converts a released folder as `filax convert from --source` does."""
  from filax.configs import common
  from filax.convert import UnreadableWeights, conversion_cache
  from filax.convert.import_folder import import_checkpoint
  from filax.convert.import_inputs import ImportRequest

  size = conversion_cache.weight_bytes(source)
  print(
    f"Converting {source} ({size / 1e9:.1f} GB) once, into {entry}.", file=sys.stderr, flush=True
  )
  request = ImportRequest(
    out=entry,
    source=source,
    base=common.base().to_dict(),
    tokenizer=_tokenizer_of(source),
    components=components,
    knob=conversion_cache.KNOB,
  )
  try:
    import_checkpoint(request)
  except FileExistsError:
    if not conversion_cache.is_whole(entry):  # Otherwise another process was faster.
      raise
  except UnreadableWeights:
    raise
  except ValueError as error:
    raise ValueError(
      f"{source} is not a checkpoint of FiLax, and cannot be converted: {error} `filax convert "
      f"from --source {source}` has options for what is missing (--help lists them)."
    ) from error


def _tokenizer_of(source: Path) -> "Tokenizer | None":
  """The tokenizer of a released folder, or that in a GGUF file."""
  from data_pipelines.text import tokenizer_folder
  from filax.convert.gguf import container

  if container.is_gguf(source):
    return gguf_tokenizer(source)
  return tokenizer_folder.load_if_present(source)


def gguf_tokenizer(path: Path) -> "Tokenizer":
  """The tokenizer that a GGUF file describes, with its chat template.

  Raises ValueError for a kind that is not implemented.
  """
  from data_pipelines.text.chat_template import read_chat_template
  from data_pipelines.text.end_tokens import end_tokens
  from data_pipelines.text.tokenizer import CONFIG
  from data_pipelines.text.tokenizer_json import JsonTokenizer
  from filax.convert.gguf import tokenizer

  settings = tokenizer.chat_settings(path)
  ends = end_tokens({CONFIG: settings})
  content = tokenizer.tokenizer_json(path)
  return JsonTokenizer(str(path), content, read_chat_template(settings), ends)
