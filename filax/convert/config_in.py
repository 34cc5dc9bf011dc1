# SPDX-License-Identifier: Apache-2.0
"""What a config.json of other software says about the architecture, in the words of config.model.

Only what decides the numbers is read. What a family always leaves to its library's default is taken
from there (epsilons, trained length); a size that is missing is asked for with --set.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from pathlib import Path
import re
from typing import Any

from filax.checkpoint import safe_files
from filax.convert import released_keys, rope_config
from filax.models import components
from filax.models.components import check_components
from filax.spec import dropout_stages

ASKED = ("theta",)  # Has a default here and another one in transformers.
KEY = "fila_config"  # Where our own config travels inside a config.json; others ignore it.
SO400M = "so400m-384"


def load(folder: Path, components: Sequence[str] = ()) -> dict[str, Any]:
  """The config.json of a folder (or of the folder that a file lies in); {} without one.

  Raises ValueError if it is damaged, or if the FiLax config inside names a component that is
  neither ours nor in one of the modules `components`.
  """
  file = (folder if folder.is_dir() else folder.parent) / "config.json"
  if not file.exists():
    return {}
  try:
    found = safe_files.read_json(file)
  except ValueError as error:
    raise ValueError(f"{file} is not readable JSON ({error}).") from None
  if not isinstance(found, dict):
    raise ValueError(f"{file} holds a {type(found).__name__}, not settings by name.")
  own = found.get(KEY, {})
  sections = ("model", "infer", "data")
  if not isinstance(own, dict) or not all(isinstance(own.get(k, {}), dict) for k in sections):
    raise ValueError(f"{file} has a {KEY} that is not a config of FiLax.")
  check_components(own, components, file)
  return found


def tuples(value: Any) -> Any:
  """JSON's lists as tuples, as fields of a model must be hashable."""
  if isinstance(value, Mapping):
    return {key: tuples(inner) for key, inner in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list) else value


def family(config: Mapping[str, Any]) -> str:
  """Which reader of FAMILIES understands a config.json; "" for none."""
  kind = str(config.get("model_type", ""))
  if "mm_vision_tower" in config or kind.startswith(("llava_qwen", "videochat_flash")):
    flash = kind.startswith("videochat_flash") or "tome" in str(config.get("mm_projector_type", ""))
    return "videochat-flash" if flash else "llava"
  return {
    "llava_onevision": "llava_onevision",
    "qwen2": "qwen2",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
  }.get(kind, "")


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config.json -> what it says of config.model: {role: {field: value}} and merge_stage.

  A whole model has all roles; a part has one. Raises ValueError for a variant of the architecture
  that is not implemented here.
  """
  kind = family(config)
  if not kind:
    known = ", ".join(sorted(FAMILIES))
    raise ValueError(
      f"config.json has model_type {config.get('model_type')!r}. Known families: {known}. Without "
      f"one of them, name the parts with --config or --set."
    )
  try:
    model = FAMILIES[kind](config)
  except (LookupError, TypeError, AttributeError) as error:
    raise ValueError(
      f"config.json does not describe a {kind} model ({type(error).__name__}: {error})."
    ) from error
  return model | tuples(config.get(KEY, {}).get("model", {}))


def qwen2(config: Mapping[str, Any]) -> dict[str, Any]:
  """The llm role from a Qwen2Config, written by transformers 4 or 5."""
  if config.get("use_sliding_window"):
    raise ValueError("use_sliding_window is on, but the llm here attends to the whole context.")
  if config.get("hidden_act", "silu") != "silu":
    raise ValueError(f"hidden_act is {config['hidden_act']!r}, but the llm here has silu.")
  rope = rope_config.read(config)
  found = _taken(
    config,
    dict(
      width="hidden_size",
      depth="num_hidden_layers",
      heads="num_attention_heads",
      kv_heads="num_key_value_heads",
      head_dim="head_dim",
      mlp="intermediate_size",
      vocab="vocab_size",
    ),
  )
  if "head_dim" not in found and {"width", "heads"} <= set(found):
    found["head_dim"] = found["width"] // found["heads"]
  theta = rope.get("rope_theta", config.get("rope_theta"))
  found |= {} if theta is None else dict(theta=float(theta))
  positions = config.get("max_position_embeddings", 32_768)
  yarn = rope_config.yarn(rope, positions) if rope_config.kind_of(rope) == "yarn" else None
  return dict(
    name="qwen2",
    tied=bool(config.get("tie_word_embeddings", False)),
    eps=config.get("rms_norm_eps", 1e-6),
    positions=positions,
    yarn=yarn,
    **found,
  )


def siglip(config: Mapping[str, Any], cut: int = 0) -> dict[str, Any]:
  """The encoder role from a SiglipVisionConfig whose last `cut` blocks are not used."""
  act = config.get("hidden_act", "gelu_pytorch_tanh")
  if act != "gelu_pytorch_tanh":
    raise ValueError(f"hidden_act is {act!r}, but SigLIP here has gelu_pytorch_tanh.")
  found = _taken(
    config,
    dict(
      size="image_size",
      patch="patch_size",
      width="hidden_size",
      heads="num_attention_heads",
      mlp="intermediate_size",
      depth="num_hidden_layers",
    ),
  )
  if "depth" in found:
    found["depth"] -= cut
  return dict(name="siglip", eps=config.get("layer_norm_eps", 1e-6), **found)


def _siglip_alone(config: Mapping[str, Any]) -> dict[str, Any]:
  """A released tower: LLaVA reads the output of its last block but one."""
  return dict(encoder=siglip(config.get("vision_config", config), cut=1))


def _qwen2_alone(config: Mapping[str, Any]) -> dict[str, Any]:
  return dict(llm=qwen2(config))


def _llava_onevision(config: Mapping[str, Any]) -> dict[str, Any]:
  """transformers' LLaVA-OneVision: every frame by itself, one newline after a video."""
  layer, strategy = (
    config.get("vision_feature_layer", -1),
    config.get("vision_feature_select_strategy", "full"),
  )
  if not isinstance(layer, int) or layer >= 0 or strategy != "full":
    raise ValueError(
      f"vision_feature_layer={layer} with strategy {strategy!r} is not implemented; a negative "
      f"layer with 'full' is."
    )
  if config.get("projector_hidden_act", "gelu") != "gelu":
    raise ValueError(f"projector_hidden_act is {config['projector_hidden_act']!r}, not gelu.")
  text = dict(config["text_config"])
  if "tie_word_embeddings" in config:  # The flag of the whole model wins in transformers.
    text["tie_word_embeddings"] = config["tie_word_embeddings"]
  return dict(
    encoder=siglip(config["vision_config"], cut=-layer - 1), llm=qwen2(text), **_frame_by_frame()
  )


def _frame_by_frame() -> dict[str, Any]:
  return dict(
    selector=dict(name="uniform", size=1),
    merger=dict(name="mean"),
    projector=dict(name="mlp", newline="one_token", pool_side=2),
    merge_stage="vision",
  )


def _llava(config: Mapping[str, Any]) -> dict[str, Any]:
  """LLaVA-NeXT's own config: the tower is a name, the newline depends on the merge type."""
  _check_released(config, released_keys.LLAVA)
  encoder = dict(name="siglip")
  if "siglip-so400m-patch14-384" in config.get("mm_vision_tower", ""):
    encoder["variant"] = SO400M
  parts = _frame_by_frame()
  newline = {"no_token": "none"}.get(
    config.get("mm_newline_position", "one_token"), config.get("mm_newline_position", "one_token")
  )
  has = "unpad" in config.get("mm_patch_merge_type", "flat")
  parts["projector"].update(newline=newline if has else "none")
  return dict(encoder=encoder, llm=qwen2(config), **parts)


def _videochat_flash(config: Mapping[str, Any]) -> dict[str, Any]:
  """VideoChat-Flash: clips, token merging, no newline, no pooling."""
  _check_released(config, released_keys.FLASH)
  tower = config.get("mm_vision_tower", "")
  encoder = next(
    (dict(name=name, variant=variant) for word, name, variant in TOWERS if word in tower), {}
  )
  clip = config.get("mm_local_num_frames", 4)
  kind = config.get("mm_projector_type")
  merged = re.fullmatch(r"tome(\d+)_mlp_hd64", kind or "")
  if kind and not merged:
    raise ValueError(f"mm_projector_type={kind!r} is not implemented; tome16_mlp_hd64 is.")
  merger = dict(name="tome", **({"tokens": int(merged[1])} if merged else {}))
  return dict(
    encoder=encoder,
    llm=qwen2(config) | _dropout(config),
    selector=dict(name="clips", size=clip),
    merger=merger,
    projector=dict(name="mlp", newline="none", pool_side=1),
    merge_stage="vision",
    encode_chunk=16,
  )


def _check_released(config: Mapping[str, Any], known: Mapping[str, tuple]) -> None:
  """Raises ValueError for a setting that is not implemented; our own exports say more beside it."""
  if not config.get(KEY, {}).get("model"):
    released_keys.check(config, known)


def _dropout(config: Mapping[str, Any]) -> dict[str, Any]:
  """config.model.llm.dropout of VideoChat-Flash, by its preset's name if it has one.

  Released models have it switched off. What a config leaves out is what the released code takes.
  """
  if not config.get("mm_llm_compress"):
    return {}
  stages = dropout_stages.released(
    config.get("llm_compress_type", "attention"),
    config.get("llm_compress_layer_list", (8, 16, 24)),
    config.get("llm_image_token_ratio_list", (1.0, 0.5, 0.25, 0.125)),
  )
  if "num_hidden_layers" in config:
    dropout_stages.parse(stages, config["num_hidden_layers"])
  return dict(
    dropout=next((n for n, known in dropout_stages.PRESETS.items() if known == stages), stages)
  )


TOWERS = (  # A word in mm_vision_tower -> encoder and variant, in the order they are tested.
  ("siglip", "siglip", SO400M),
  ("internvideo2", "internvideo2", "1B"),
  ("umt-hd", "umt", "L-448"),
  ("umt", "umt", "L-224"),
)
FAMILIES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
  "llava_onevision": _llava_onevision,
  "llava": _llava,
  "videochat-flash": _videochat_flash,
  "qwen2": _qwen2_alone,
  "siglip": _siglip_alone,
}


def _taken(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
  return {ours: config[theirs] for ours, theirs in names.items() if config.get(theirs) is not None}


def typed(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
  """The part with floats where its fields are floats: 1000000 is a base of rotations, too.

  Raises ValueError for a value that is no number where one is needed, or a size below 1.
  """
  fields = (
    components.component(role, part["name"])[1].__dataclass_fields__ if "name" in part else {}
  )
  found = dict(part)
  for key in part.keys() & fields.keys():
    value, field = part[key], fields[key]
    if field.type not in (int, float):
      continue
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (field.type is float and isinstance(value, float))) or (
      _required(field) and value < 1
    ):
      raise ValueError(
        f"{role}.{key} is {value!r}, but must be a number"
        f"{' of at least 1' if _required(field) else ''}. Give --set {role}.{key}=..."
      )
    found[key] = field.type(value)
  return found


def check_complete(model: Mapping[str, Any]) -> None:
  """Raises ValueError naming the --set of every size that is still missing."""
  missing = []
  for role, part in model.items():
    if not isinstance(part, Mapping) or "variant" in part:
      continue
    if "name" not in part:
      missing.append(f"{role}.name")
      continue
    _, component = components.component(role, part["name"])
    fields = component.__dataclass_fields__
    missing += [
      f"{role}.{name}"
      for name, field in fields.items()
      if (_required(field) or name in ASKED) and name not in part
    ]
  if missing:
    raise ValueError(
      f"config.json does not say {', '.join(missing)}. Give "
      + " ".join(f"--set {name}=..." for name in missing)
      + ", or a variant: --set ROLE.variant=NAME."
    )


def _required(field) -> bool:
  absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
  return absent and field.name not in ("parent", "name")


def named(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
  """The same part by its variant's name if it has one, for a config that reads well."""
  if "variant" in part or "name" not in part:
    return dict(part)
  module, component = components.component(role, part["name"])
  fields, whole = component.__dataclass_fields__, components.build(role, part)
  for variant, sizes in getattr(module, "VARIANTS", {}).items():
    own = {k: v for k, v in part.items() if k not in sizes and v != _default(fields, k)}
    short = dict(name=part["name"], variant=variant) | own
    if components.build(role, short) == whole:
      return short
  return dict(part)


def _default(fields, name: str):
  return fields[name].default if name in fields and name != "name" else dataclasses.MISSING


def answer_as(config: dict[str, Any], says: Mapping[str, Any]) -> None:
  """Sets config.infer and config.data to how the source answers, as far as it says."""
  if own := says.get(KEY):
    for key in ("infer", "data"):
      config.setdefault(key, {}).update(own.get(key, {}))
    return
  size = config["model"]["selector"].get("size", 1)
  if infer := config.get("infer"):
    infer["selector"] = dict(name=config["model"]["selector"]["name"], size=size)
    infer["sampling"] = dict(name="uniform", frames=32 * size, phase="ends")
    if family(says) == "videochat-flash":
      infer["sampling"] = dict(name="dynamic_fps", frames=512, low=64, multiple=8, phase="released")
      infer["time_prompt"], infer["max_new_tokens"] = "vcf_released", 1024
      config.setdefault("data", {})["resize"] = "pillow"
