# SPDX-License-Identifier: Apache-2.0
"""Reads a config.json of other software into config.model.

Only settings that change the numbers are read. Settings that a family leaves to its library's
defaults (epsilons, trained length) take those defaults; a missing size must be set with --set.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
import re
from typing import Any

from filax.checkpoint import safe_files
from filax.checkpoint.tuples import as_tuples
from filax.convert import llm_config_in, released_keys
from filax.convert.gguf import container
from filax.convert.gguf.config import gguf_config
from filax.convert.llm_config_in import read_llm, renamed
from filax.models.components import check_components
from filax.spec import dropout_stages

KEY = "fila_config"  # The key of our config in a config.json; other software ignores it.
SO400M = "so400m-384"
SIGLIP = "siglip_vision_model"
_SIGLIP_SIZES = dict(size=224, patch=16, width=768, heads=12, mlp=3072, depth=12)  # Transformers'.


def read_config_json(folder: Path, components: Sequence[str] = ()) -> dict[str, Any]:
  """The config.json of a folder; {} without one.

  For a file, the config.json of its folder; for a GGUF file, what it says itself. Raises ValueError
  if it is damaged, or if the FiLax config inside names a component that is neither ours nor in one
  of the modules `components`.
  """
  if container.is_gguf(folder):
    return gguf_config(folder)
  file = (folder if folder.is_dir() else folder.parent) / "config.json"
  if not file.exists():
    return {}
  try:
    config = safe_files.read_json(file)
  except ValueError as error:
    raise ValueError(f"{file} is not readable JSON ({error}).") from None
  if not isinstance(config, dict):
    raise ValueError(f"{file} holds a {type(config).__name__}, not settings by name.")
  fila_config = config.get(KEY, {})
  if not _is_fila_config(fila_config):
    raise ValueError(f"{file} has a {KEY} that is not a config of FiLax.")
  check_components(fila_config, components, file)
  return config


def _is_fila_config(value: Any) -> bool:
  if not isinstance(value, dict):
    return False
  return all(isinstance(value.get(key, {}), dict) for key in ("model", "infer", "data"))


def config_family(config: Mapping[str, Any]) -> str:
  """The name of the reader in FAMILIES; "" for none."""
  kind = str(config.get("model_type", ""))
  if "mm_vision_tower" in config or kind.startswith(("llava_qwen", "videochat_flash")):
    projector = str(config.get("mm_projector_type", ""))
    is_flash = kind.startswith("videochat_flash") or "tome" in projector
    return "videochat-flash" if is_flash else "llava"
  if kind == SIGLIP:
    return "siglip"
  if kind == "llava" and "text_config" in config:  # LLaVA 1.5 of transformers.
    return ""
  return kind if kind in FAMILIES else ""


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
  """The part of config.model that a config.json describes.

  Returns {role: {field: value}} and merge_stage. A whole model has all roles; a partial model has
  one. Raises ValueError for a variant of the architecture that is not implemented here.
  """
  family = config_family(config)
  if not family:
    known_families = ", ".join(sorted(FAMILIES))
    raise ValueError(
      f"config.json has model_type {config.get('model_type')!r}. Known families: "
      f"{known_families}. Without one of them, name the parts with --config or --set."
    )
  _check_not_quantised(config)
  try:
    model = FAMILIES[family](config)
  except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
    raise ValueError(
      f"config.json does not describe a {family} model ({type(error).__name__}: {error})."
    ) from error
  fila_model = config.get(KEY, {}).get("model", {})
  return model | as_tuples(fila_model)


def _check_not_quantised(config: Mapping[str, Any]) -> None:
  """Raises ValueError for weights in fp8, int4 and the like.

  Their scales are tensors of their own.
  """
  text_config = config.get("text_config")
  for part in (config, text_config if isinstance(text_config, Mapping) else {}):
    settings = part.get("quantization_config")
    if settings:
      method = settings.get("quant_method") if isinstance(settings, Mapping) else settings
      raise ValueError(
        f"config.json has quantization_config of method {method!r}, but quantised weights are not "
        "implemented. Take the folder of the model before it was quantised; --quantise of chat "
        "and evals quantises it."
      )


def read_siglip(config: Mapping[str, Any], cut: int = 0) -> dict[str, Any]:
  """The encoder role from a SiglipVisionConfig, without its last `cut` blocks.

  Raises ValueError for another kind of encoder.
  """
  kind = config.get("model_type", SIGLIP)
  if kind != SIGLIP:
    raise ValueError(f"The encoder's model_type is {kind!r}, but the one here is {SIGLIP!r}.")
  activation = config.get("hidden_act", "gelu_pytorch_tanh")
  if activation != "gelu_pytorch_tanh":
    raise ValueError(f"hidden_act is {activation!r}, but SigLIP here has gelu_pytorch_tanh.")
  names = dict(
    size="image_size",
    patch="patch_size",
    width="hidden_size",
    heads="num_attention_heads",
    mlp="intermediate_size",
    depth="num_hidden_layers",
  )
  sizes = renamed(config, names)
  if "model_type" in config:
    sizes = _SIGLIP_SIZES | sizes
  if "depth" in sizes:
    sizes["depth"] -= cut
  return dict(name="siglip", eps=config.get("layer_norm_eps", 1e-6), **sizes)


def _read_siglip_alone(config: Mapping[str, Any]) -> dict[str, Any]:
  """A released SigLIP tower without its last block.

  LLaVA reads the output of the last block but one.
  """
  return dict(encoder=read_siglip(config.get("vision_config", config), cut=1))


def _read_llm_alone(config: Mapping[str, Any]) -> dict[str, Any]:
  return dict(llm=read_llm(config))


def _read_llava_onevision(config: Mapping[str, Any]) -> dict[str, Any]:
  """transformers' LLaVA-OneVision.

  Frames are encoded one by one; one newline follows a video.
  """
  layer = config.get("vision_feature_layer", -1)
  strategy = config.get("vision_feature_select_strategy", "full")
  if not isinstance(layer, int) or layer >= 0 or strategy != "full":
    raise ValueError(
      f"vision_feature_layer={layer} with strategy {strategy!r} is not implemented; a negative "
      f"layer with 'full' is."
    )
  if config.get("projector_hidden_act", "gelu") != "gelu":
    raise ValueError(f"projector_hidden_act is {config['projector_hidden_act']!r}, not gelu.")
  encoder = read_siglip(config["vision_config"], cut=-layer - 1)
  return dict(encoder=encoder, llm=read_llm(_text_config(config)), **_frame_by_frame("one_token"))


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """The text_config, with the tie_word_embeddings of the whole config before its own.

  If only its own ties the head, as in files of older transformers, it says neither: there the files
  decide.
  """
  text_config = dict(config["text_config"])
  kind = text_config.get("model_type", "qwen2")
  if kind not in llm_config_in.FAMILIES:
    raise ValueError(
      f"text_config has model_type {kind!r}, but the language models here are "
      f"{', '.join(llm_config_in.FAMILIES)}."
    )
  tied = config.get("tie_word_embeddings")
  if tied is not None:
    text_was_tied = text_config.pop("tie_word_embeddings", False)
    if tied or not text_was_tied:
      text_config["tie_word_embeddings"] = tied
  return text_config


def _frame_by_frame(newline: str) -> dict[str, Any]:
  """The roles of a model that encodes frames one by one."""
  return dict(
    selector=dict(name="uniform", size=1),
    merger=dict(name="mean"),
    projector=dict(name="mlp", newline=newline, pool_side=2),
    merge_stage="vision",
  )


def _read_llava(config: Mapping[str, Any]) -> dict[str, Any]:
  """LLaVA-NeXT's own config.

  The tower is given by name; the newline depends on the merge type.
  """
  kind = str(config.get("model_type", ""))
  if kind.startswith("llava_") and kind != "llava_qwen":
    raise ValueError(f"model_type is {kind!r}, but the LLaVA-NeXT here is llava_qwen.")
  _check_released(config, released_keys.LLAVA)
  encoder = dict(name="siglip")
  tower = config.get("mm_vision_tower", "")
  if re.search("siglip2?-so400m-patch14-384", tower):
    encoder["variant"] = SO400M
  elif "clip-vit" in tower:  # Another name may be that of a local folder.
    raise ValueError(f"mm_vision_tower is {tower!r}, but the encoder of LLaVA-NeXT here is SigLIP.")
  newline = config.get("mm_newline_position", "one_token")
  if newline == "no_token" or "unpad" not in config.get("mm_patch_merge_type", "flat"):
    newline = "none"
  return dict(encoder=encoder, llm=read_llm(config), **_frame_by_frame(newline))


def _read_videochat_flash(config: Mapping[str, Any]) -> dict[str, Any]:
  """VideoChat-Flash: clips, token merging, no newline, no pooling."""
  _check_released(config, released_keys.FLASH)
  encoder = _flash_encoder(config.get("mm_vision_tower", ""))
  merger: dict[str, Any] = dict(name="tome")
  projector = config.get("mm_projector_type")
  if projector:
    match = re.fullmatch(r"tome(\d+)_mlp_hd64", projector)
    if match is None:
      raise ValueError(f"mm_projector_type={projector!r} is not implemented; tome16_mlp_hd64 is.")
    merger["tokens"] = int(match[1])
  return dict(
    encoder=encoder,
    llm=read_llm(config) | _read_dropout(config),
    selector=dict(name="clips", size=config.get("mm_local_num_frames", 4)),
    merger=merger,
    projector=dict(name="mlp", newline="none", pool_side=1),
    merge_stage="vision",
    encode_chunk=16,
  )


def _flash_encoder(tower: str) -> dict[str, str]:
  for word, name, variant in TOWERS:
    if word in tower:
      return dict(name=name, variant=variant)
  return {}


def _check_released(config: Mapping[str, Any], implemented: Mapping[str, tuple[Any, ...]]) -> None:
  """Raises ValueError for a setting that is not implemented.

  Our own exports are not checked: their FiLax config has the exact settings.
  """
  if not config.get(KEY, {}).get("model"):
    released_keys.check_released_keys(config, implemented)


def _read_dropout(config: Mapping[str, Any]) -> dict[str, Any]:
  """config.model.llm.dropout of VideoChat-Flash.

  A preset's name if one matches, otherwise the stages. Released models have it switched off.
  Missing settings take the defaults of the released code.
  """
  if not config.get("mm_llm_compress"):
    return {}
  stages = dropout_stages.released(
    config.get("llm_compress_type", "attention"),
    config.get("llm_compress_layer_list", (8, 16, 24)),
    config.get("llm_image_token_ratio_list", (1.0, 0.5, 0.25, 0.125)),
  )
  if "num_hidden_layers" in config:
    dropout_stages.parse_stages(stages, config["num_hidden_layers"])
  for name, preset in dropout_stages.PRESETS.items():
    if preset == stages:
      return dict(dropout=name)
  return dict(dropout=stages)


TOWERS = (  # A word in mm_vision_tower -> encoder and variant, in the order they are tested.
  ("siglip", "siglip", SO400M),
  ("internvideo2", "internvideo2", "1B"),
  ("umt-hd", "umt", "L-448"),
  ("umt", "umt", "L-224"),
)
FAMILIES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
  "llava_onevision": _read_llava_onevision,
  "llava": _read_llava,
  "videochat-flash": _read_videochat_flash,
  "siglip": _read_siglip_alone,
  **dict.fromkeys(llm_config_in.FAMILIES, _read_llm_alone),
}


def set_answer_settings(config: dict[str, Any], source_config: Mapping[str, Any]) -> None:
  """Sets config.infer and config.data as in the source model."""
  fila_config = source_config.get(KEY)
  if fila_config:
    for section in ("infer", "data"):
      config.setdefault(section, {}).update(fila_config.get(section, {}))
    return
  infer = config.get("infer")
  if not infer:
    return
  selector = config["model"]["selector"]
  size = selector.get("size", 1)
  infer["selector"] = dict(name=selector["name"], size=size)
  # LLaVA-OneVision samples 32 frames. LLaVA-Video, whose config has force_sample, samples 64.
  frames = 64 if source_config.get("force_sample") else 32 * size
  infer["sampling"] = dict(name="uniform", frames=frames, phase="ends")
  if source_config.get("add_time_instruction"):
    infer["time_prompt"] = "llava"
  config.setdefault("data", {})["resize"] = "pillow"  # Of all released code.
  family = config_family(source_config)
  config["data"]["images"] = _picture_views(family, source_config)
  if family == "videochat-flash":
    infer["sampling"] = dict(name="dynamic_fps", frames=512, low=64, multiple=8, phase="released")
    infer["time_prompt"] = "vcf_released"
    infer["max_new_tokens"] = 1024


def _picture_views(family: str, source_config: Mapping[str, Any]) -> dict[str, Any]:
  """config.data.images of a released model."""
  if family == "videochat-flash":
    return dict(mode="anyres_nopad", tiles=36)
  ratio = source_config.get("image_aspect_ratio", "square")
  has_tiles = "unpad" in source_config.get("mm_patch_merge_type", "flat")
  if family == "llava_onevision":
    ratio = source_config.get("vision_aspect_ratio", "anyres_max_9")
    has_tiles = True
  match = re.fullmatch(r"anyres_max_(\d+)", str(ratio))
  if match is not None and has_tiles:
    return dict(mode="anyres", tiles=int(match[1]))
  return dict(mode="pad" if ratio == "pad" else "squash", tiles=1)
