# SPDX-License-Identifier: Apache-2.0
"""Valid values of every setting of a config, in one table.

It is checked before any work starts. The defaults are in configs/common.py; a test compares the
two. Rules about several settings at once (complete groups of frames, rows that split over devices)
are checked where they are used. Standard library only, so that every part of the project can use
it.
"""

from collections.abc import Iterator, Mapping, MutableMapping
import difflib
import json
import os
from typing import Any

from filax import setting_kinds
from filax.setting_kinds import (
  FLAG,
  NAME,
  PATH,
  TEXT,
  Setting,
  number,
  one_of,
  rows_of,
  whole_number,
)

LARGEST_SEED = 2**63 - 1  # That jax.random.key takes.
_POSITIONS = 2**24  # float32, in which angles are computed, holds all whole numbers up to here.
_MOST_OF_GROUP = 4096  # Frames; some mergers compute them one by one.
_OF_COMPONENTS = ("model.", "infer.selector.")  # Their arguments are checked as they are built.


def check_settings(config: Mapping[str, Any], path: str = "config") -> None:
  """Raises ValueError naming the first invalid setting and its valid values.

  config: a ConfigDict or nested dicts, complete or in part. Keys that are not in TABLE are skipped:
  the arguments of a user's components are checked where the model is built.
  """
  user_components = tuple(_user_components(config))
  for name, value in leaves(config):
    setting_kinds.check_encoding(f"{path}.{name}", value)
    if name.startswith(user_components):
      continue
    if name in _GROUPS:
      raise ValueError(
        f"{path}.{name}={value!r} is not a group of settings. Set those below it, such as "
        f"{path}.{_GROUPS[name]}."
      )
    if name in TABLE:
      setting_kinds.check_value(f"{path}.{name}", value, TABLE[name])


def check_names(config: Mapping[str, Any], path: str = "config") -> None:
  """Raises ValueError naming the first key that FiLax does not have.

  It also names the first value that config.json cannot hold. Keys in a group of the user's own,
  such as "my_lab.size", are not checked. config: as of `check_settings`.
  """
  for name, value in leaves(config):
    is_free = name.startswith(_OF_COMPONENTS) or _is_in_own_group(name)
    if name not in TABLE and not is_free:
      near = difflib.get_close_matches(name, TABLE, n=1, cutoff=0.65)
      hint = f"Settings of your own go into a group such as {path}.my_lab; see `filax show`."
      if near:
        hint = f"Did you mean {path}.{near[0]}?"
      raise ValueError(f"{path}.{name} is set, but there is no such setting. {hint}")
    try:
      json.dumps(value)
    except (TypeError, ValueError) as error:
      raise ValueError(
        f"{path}.{name}={value!r} cannot be written to config.json ({error}). Set it to plain "
        "numbers, texts and tuples, such as float(x) for a number of NumPy."
      ) from error


TYPE = one_of("bfloat16", "float16", "float32", "float64")
REMAT = one_of("auto", "none", "products", "attn_mlp", "attn_qkv", "attn", "nothing", "offload")
TIME_PROMPT = one_of("none", "fila", "llava", "vcf", "vcf_released")
SIZE = whole_number(1, also=(-1,))
RULES = rows_of(
  '((regular expression, number of 0 or more), ...), such as (("", 1e-5),)', setting_kinds.is_rule
)
SAMPLING = {
  "name": one_of("uniform", "dynamic_fps", "dense_sparse", "first"),
  "frames": whole_number(0, _POSITIONS),
  "phase": one_of("ends", "middle", "random", "released"),
  "low": whole_number(1),
  "multiple": whole_number(1),
  "fps": number(above=True),
  "short": number(),
  "dense": number(above=True),
  "sparse": number(above=True),
}
SELECTOR = {
  "name": NAME,
  "size": whole_number(1, _MOST_OF_GROUP),
  "scenes": whole_number(1, _POSITIONS),
  "steps": whole_number(0),
  "history": one_of("similar", "dissimilar"),
  "seeds": one_of("farthest", "random", "kmeans++"),
}
TABLE: dict[str, Setting] = {
  "seed": whole_number(0, LARGEST_SEED),
  "init_from": PATH,
  "ignore_fingerprint": FLAG,
  "batch": whole_number(1),
  "steps": whole_number(0),
  "epochs": number(above=True),
  "log_every": whole_number(1),
  "trackers": rows_of(
    'a tuple of trackers, such as ("tensorboard", "wandb"), or () for none', NAME.fits, empty=True
  ),
  "checkpoint_every": whole_number(1),
  "keep": whole_number(0),
  "best": Setting(
    'a score of config.evals, such as "eval/held_out/accuracy", with a minus sign before it where '
    'less is better ("-eval/held_out/loss"), or "" for none',
    setting_kinds.is_score_name,
  ),
  "evals": rows_of(
    "((manifest or benchmark, every, limit), ...), with every of 1 or more steps and limit of 1 or "
    'more questions (0 = all), such as (("held_out.json", 500, 200),), or with folder and protocol '
    '(("videomme", 500, 200, "/data/videomme", "vcf"),)',
    setting_kinds.is_evaluation,
    empty=True,
  ),
  "evals_batch": whole_number(1),
  "peak_tflops": number(),
  "profile": Setting(
    'a range of steps FIRST:STOP, such as "10:15" for steps 10 to 14, or "" for none',
    setting_kinds.is_step_range,
  ),
  "debug_corpus": PATH,
  "stall_seconds": number(),
  "mesh.data": SIZE,
  "mesh.fsdp": SIZE,
  "mesh.seq": SIZE,
  "mesh.tensor": SIZE,
  "model.encoder.name": NAME,
  "model.encoder.variant": TEXT,
  "model.encoder.remat": REMAT,
  "model.merger.name": NAME,
  "model.merger.tokens": whole_number(1),
  "model.merger.heads": whole_number(1),
  "model.projector.name": NAME,
  "model.projector.newline": one_of("one_token", "grid", "frame", "none"),
  "model.projector.pool_side": whole_number(1),
  "model.llm.name": NAME,
  "model.llm.variant": TEXT,
  "model.llm.remat": REMAT,
  "model.llm.attention": one_of("auto", "dense", "blockwise", "cudnn", "splash"),
  "model.llm.sequence": one_of("gather", "ring", "ulysses", "ulysses_ring"),
  "model.llm.theta": number(above=True),
  "model.llm.positions": whole_number(1),
  "model.llm.dropout_positions": one_of("renumber", "keep"),
  "model.llm.dropout_queries": one_of("released", "answers"),
  "model.merge_stage": one_of("vision", "projector", "pool"),
  "model.encode_chunk": whole_number(0),
  "model.dtype": TYPE,
  "model.param_dtype": TYPE,
  "infer.lengths": rows_of(
    "a tuple of whole numbers of 1 or more, below 2^31", whole_number(1).fits
  ),
  "infer.max_new_tokens": whole_number(1),
  "infer.temperature": number(),
  "infer.top_p": number(0, 1, above=True),
  "infer.time_prompt": one_of("", "none", "fila", "llava", "vcf", "vcf_released"),
  "data.train": rows_of(
    "((manifest, strategy), ...), with all, first:N, end:N or random:N, such as "
    '(("my.json", "all"),)',
    setting_kinds.is_mixture_entry,
    empty=True,
  ),
  "data.root": PATH,
  "data.tokenizer": Setting("a tokenizer.json or *.model", setting_kinds.is_file),
  "data.template": one_of("chatml", "brief", "plain", "chat"),
  "data.system": TEXT,
  "data.labels": one_of("llava", "answer_only"),
  "data.time_prompt": TIME_PROMPT,
  "data.resize": one_of("squash", "pad", "pillow"),
  "data.images.mode": one_of("squash", "pad", "anyres", "anyres_nopad"),
  "data.images.tiles": whole_number(1),
  "data.image_pixels": whole_number(1),
  "data.rows": rows_of(
    "1 to 3 rows of 4 numbers, ((frames, images, positions, samples), ...), with frames and images "
    "of 0 or more, positions and samples of 1 or more, all below 2^31",
    setting_kinds.is_row,
    limit=3,
  ),
  "data.packing": FLAG,
  "data.position_gaps": whole_number(0, _POSITIONS),
  "data.too_long": one_of("skip", "error"),
  "data.exclude": PATH,
  "data.cache": PATH,
  "data.threads": whole_number(1),
  "data.workers": whole_number(0),
  "data.prefetch": whole_number(1),
  "data.open_seconds": number(above=True),
  "data.decode_seconds": number(above=True),
  "lora.ranks": rows_of(
    "((regular expression of kernels, rank of 0 or more), ...), such as "
    '(("^llm/layers/", 16),), or () for no adapters',
    setting_kinds.is_rank,
    empty=True,
  ),
  "lora.alpha": number(above=True),
  "lora.dropout": number(0, 1, below=True),
  "lora.base": one_of("same", "int8", "nf4"),
  "optim.kind": one_of("adamw", "lion", "muon", "adafactor", "schedule_free"),
  "optim.rates": RULES,
  "optim.decay": RULES,
  "optim.warmup": number(),
  "optim.final": number(0, 1),
  "optim.b1": number(0, 1, below=True),
  "optim.b2": number(0, 1, below=True),
  "optim.eps": number(above=True),
  "optim.ema": number(0, 1, below=True),
  "optim.clip": number(),
  "optim.accumulate": whole_number(0, also=("auto",)),
  "optim.reduction": one_of("sample_mean", "token_mean"),
  "optim.loss_chunk": whole_number(1),
}
for _name, _setting in SAMPLING.items():
  TABLE[f"data.sampling.{_name}"] = _setting
  TABLE[f"infer.sampling.{_name}"] = _setting
for _name, _setting in SELECTOR.items():
  TABLE[f"model.selector.{_name}"] = _setting
  TABLE[f"infer.selector.{_name}"] = _setting

# Group of settings, such as "data.sampling" -> one of its settings.
_GROUPS: dict[str, str] = {}
for _name in TABLE:
  _parts = _name.split(".")
  for _depth in range(1, len(_parts)):
    _GROUPS.setdefault(".".join(_parts[:_depth]), _name)


# Settings that every config has, by their group.
_NEEDED = {
  "": "seed init_from ignore_fingerprint batch steps epochs log_every checkpoint_every keep "
  "debug_corpus peak_tflops stall_seconds",
  "data.": "train root tokenizer template system labels time_prompt rows packing too_long exclude "
  "cache threads workers prefetch open_seconds decode_seconds",
  "data.sampling.": "name frames phase",
  "infer.": "lengths max_new_tokens temperature top_p",
  "infer.selector.": "name",
  "infer.sampling.": "name frames phase",
  "optim.": "rates decay warmup final b1 b2 eps clip accumulate reduction loss_chunk",
}
NEEDED = tuple(group + name for group, names in _NEEDED.items() for name in names.split())


def check_complete(config: Mapping[str, Any], path: str = "config") -> None:
  """Raises ValueError naming the first setting that is missing.

  A group that is replaced as a whole, such as c.data.sampling = dict(...), must keep them. config:
  as of `check_settings`.
  """
  present = {name for name, _ in leaves(config)}
  for name in NEEDED:
    if name not in present:
      raise ValueError(f"{path}.{name} is missing. Set it to {TABLE[name].words}.")


def expand_home(config: MutableMapping[str, Any]) -> None:
  """Expands a leading ~ in every path of a config.

  config: a ConfigDict or nested dicts. Objects of pathlib become texts.
  """
  for key, value in config.items():
    if hasattr(value, "items"):
      expand_home(value)
    elif isinstance(value, str | tuple | os.PathLike):
      config[key] = with_home(value)


def with_home(value: Any) -> Any:
  """A path, or a tuple with paths, without ~."""
  if isinstance(value, tuple):
    return tuple(map(with_home, value))
  if isinstance(value, os.PathLike):
    value = os.fspath(value)
  if isinstance(value, str) and value.startswith("~/"):
    return os.path.expanduser(value)
  return value


def leaves(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
  """(name, value) of every setting, such as "data.rows".

  A group in place of a value counts as a value.
  """
  for key, value in config.items():
    name = f"{path}{key}"
    if hasattr(value, "items") and name not in TABLE:
      yield from leaves(value, f"{name}.")
    else:
      yield name, value


def _is_in_own_group(name: str) -> bool:
  """Whether a setting is in a group of the user's own.

  Its name is like that of no group of FiLax.
  """
  group, dot, _ = name.partition(".")
  return bool(dot) and not difflib.get_close_matches(group, _GROUPS)


def _user_components(config: Mapping[str, Any]) -> list[str]:
  """ "model.merger." of every role whose component is the user's own ("package.module:Class")."""
  prefixes = []
  for name, value in leaves(config):
    if name.endswith(".name") and isinstance(value, str) and ":" in value:
      prefixes.append(name.removesuffix("name"))
  return prefixes
