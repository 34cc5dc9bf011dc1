# SPDX-License-Identifier: Apache-2.0
"""What every setting of a config may be: one table, looked at before any work starts.

The defaults are in configs/common.py; a test holds the two together. What depends on several
settings at once (whole groups of frames, rows that split over devices) is checked where it is used.
Standard library only, so that every part of the project can use it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from filax import setting_kinds
from filax.setting_kinds import FLAG, NAME, PATH, TEXT, Setting, number, one_of, rows_of, whole

_SEED = 2**63 - 1  # The largest that jax.random.key takes.


def check(config: Mapping[str, Any], path: str = "config") -> None:
  """Raises ValueError naming the first setting of `config` that cannot be, and what it may be.

  config: a ConfigDict or nested dicts, whole or in part. Keys that TABLE does not know are skipped:
  the arguments of a model's own components are checked where it is built.
  """
  own = _own_components(config)
  for name, value in leaves(config):
    if any(name.startswith(prefix) for prefix in own):
      continue
    if name in _GROUPS:
      raise ValueError(
        f"{path}.{name}={value!r} is no group of settings. Set those below it, such as "
        f"{path}.{_GROUPS[name]}."
      )
    if name in TABLE:
      setting_kinds.check_value(f"{path}.{name}", value, TABLE[name])


TYPE = one_of("bfloat16", "float16", "float32", "float64")
REMAT = one_of("none", "nothing", "attn", "attn_mlp", "offload")
TIME_PROMPT = one_of("none", "fila", "llava", "vcf", "vcf_released")
SIZE = whole(1, also=(-1,))
RULES = rows_of(
  '((regular expression, number of 0 or more), ...), such as (("", 1e-5),)', setting_kinds.is_rule
)
SAMPLING = {
  "name": one_of("uniform", "dynamic_fps", "dense_sparse", "first"),
  "frames": whole(0),
  "phase": one_of("ends", "middle", "random", "released"),
  "low": whole(1),
  "multiple": whole(1),
  "fps": number(above=True),
  "short": number(),
  "dense": number(above=True),
  "sparse": number(above=True),
}
SELECTOR = {
  "name": NAME,
  "size": whole(1),
  "scenes": whole(1),
  "steps": whole(0),
  "history": one_of("similar", "dissimilar"),
  "seeds": one_of("farthest", "random", "kmeans++"),
}
TABLE: dict[str, Setting] = {
  "seed": whole(0, _SEED),
  "init_from": PATH,
  "ignore_fingerprint": FLAG,
  "batch": whole(1),
  "steps": whole(0),
  "epochs": number(above=True),
  "log_every": whole(1),
  "checkpoint_every": whole(1),
  "keep": whole(0),
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
  "model.merger.tokens": whole(1),
  "model.merger.heads": whole(1),
  "model.projector.name": NAME,
  "model.projector.newline": one_of("one_token", "grid", "frame", "none"),
  "model.projector.pool_side": whole(1),
  "model.llm.name": NAME,
  "model.llm.variant": TEXT,
  "model.llm.remat": REMAT,
  "model.llm.attention": one_of("auto", "dense", "blockwise", "cudnn", "splash"),
  "model.llm.sequence": one_of("gather", "ring", "ulysses", "ulysses_ring"),
  "model.llm.dropout_positions": one_of("renumber", "keep"),
  "model.llm.dropout_queries": one_of("released", "answers"),
  "model.merge_stage": one_of("vision", "projector", "pool"),
  "model.encode_chunk": whole(0),
  "model.dtype": TYPE,
  "model.param_dtype": TYPE,
  "infer.lengths": rows_of("a tuple of whole numbers of 1 or more", whole(1).fits),
  "infer.max_new_tokens": whole(1),
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
  "data.template": one_of("chatml", "brief", "plain"),
  "data.system": TEXT,
  "data.labels": one_of("llava", "answer_only"),
  "data.time_prompt": TIME_PROMPT,
  "data.resize": one_of("squash", "pad", "pillow"),
  "data.images.mode": one_of("squash", "pad", "anyres", "anyres_nopad"),
  "data.images.tiles": whole(1),
  "data.image_pixels": whole(1),
  "data.rows": rows_of(
    "1 to 3 rows of 4 numbers, ((frames, images, positions, samples), ...), with frames and images "
    "of 0 or more, positions and samples of 1 or more",
    setting_kinds.is_row,
    most=3,
  ),
  "data.packing": FLAG,
  "data.too_long": one_of("skip", "error"),
  "data.exclude": PATH,
  "data.cache": PATH,
  "data.threads": whole(1),
  "data.workers": whole(0),
  "data.prefetch": whole(1),
  "data.open_seconds": number(above=True),
  "data.decode_seconds": number(above=True),
  "optim.rates": RULES,
  "optim.decay": RULES,
  "optim.warmup": number(),
  "optim.final": number(0, 1),
  "optim.b1": number(0, 1, below=True),
  "optim.b2": number(0, 1, below=True),
  "optim.eps": number(above=True),
  "optim.clip": number(),
  "optim.accumulate": whole(0),
  "optim.reduction": one_of("sample_mean", "token_mean"),
  "optim.loss_chunk": whole(1),
}
for _name, _setting in SAMPLING.items():
  TABLE[f"data.sampling.{_name}"] = _setting
  TABLE[f"infer.sampling.{_name}"] = _setting
for _name, _setting in SELECTOR.items():
  TABLE[f"model.selector.{_name}"] = _setting
  TABLE[f"infer.selector.{_name}"] = _setting

# "data.sampling" -> a setting below it, for every group of settings.
_GROUPS: dict[str, str] = {}
for _name in TABLE:
  _parts = _name.split(".")
  for _depth in range(1, len(_parts)):
    _GROUPS.setdefault(".".join(_parts[:_depth]), _name)


def leaves(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
  """("data.rows", value) of every setting; a group where a value is wanted counts as a value."""
  for key, value in config.items():
    name = f"{path}{key}"
    if hasattr(value, "items") and name not in TABLE:
      yield from leaves(value, f"{name}.")
    else:
      yield name, value


def _own_components(config: Mapping[str, Any]) -> list[str]:
  """ "model.merger." of every role whose component is the user's own ("package.module:Class")."""
  own = []
  for name, value in leaves(config):
    if name.endswith(".name") and isinstance(value, str) and ":" in value:
      own.append(name.removesuffix("name"))
  return own
