# SPDX-License-Identifier: Apache-2.0
"""The config.json of an exported folder, in other software's terms."""

from collections.abc import Mapping
from typing import Any

from filax.convert import config_in
from filax.convert.llm_config_out import ExportVocabulary, llm_config
from filax.models import components

RUN_KEYS = (  # Keys of config.data that an export needs.
  "template",
  "system",
  "labels",
  "time_prompt",
  "images",
  "sampling",
  "resize",
)
HIDDEN = ("dtype", "param_dtype", "remat", "attention", "parent", "name", "processor", "out")
TILES = 6  # LLaVA-OneVision's grids go up to 6 x 6 tiles.


def fila_settings(config: Mapping[str, Any], vocabulary: ExportVocabulary | None) -> dict[str, Any]:
  """The settings for our own software and run_torch.py.

  Every size is spelled out.
  """
  settings: dict[str, Any] = dict(model=spelled_model(config["model"]))
  if "infer" in config:
    settings["infer"] = config["infer"]
    selector = components.build("selector", config["infer"]["selector"])
    settings["representative"] = selector.representative
  if "data" in config:
    data = config["data"]
    settings["data"] = {key: data[key] for key in RUN_KEYS if key in data}
  if vocabulary is not None:
    settings["tokens"] = vocabulary.tokens
    settings["pad"] = vocabulary.pad
    settings["stop"] = list(vocabulary.stop)
    settings["controls"] = sorted(vocabulary.controls.values())
  return settings


def spelled_model(model: Mapping[str, Any]) -> dict[str, Any]:
  """config.model without variants' names and dtypes.

  It contains everything that determines the numbers.
  """
  spelled = {}
  for key, value in model.items():
    if key in components.ROLES:
      spelled[key] = _spelled_part(key, value)
    elif key not in ("dtype", "param_dtype"):
      spelled[key] = value
  return spelled


def _spelled_part(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
  component = components.build(role, part)
  spelled = dict(name=part["name"])
  for key in component.__dataclass_fields__:
    if key not in HIDDEN:
      spelled[key] = getattr(component, key)
  return spelled


def siglip_config(tower: Any) -> dict[str, Any]:
  """A SiglipVisionConfig of the used blocks, without the pooling head."""
  return dict(
    model_type="siglip_vision_model",
    hidden_size=tower.width,
    intermediate_size=tower.mlp,
    num_hidden_layers=tower.depth,
    num_attention_heads=tower.heads,
    image_size=tower.size,
    patch_size=tower.patch,
    num_channels=3,
    hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=tower.eps,
    attention_dropout=0.0,
    vision_use_head=False,
  )


def llava_onevision_config(
  config: Mapping[str, Any],
  dtype: str,
  vocabulary: ExportVocabulary | None,
  placeholders: tuple[int, int],
) -> dict[str, Any]:
  """config.json of LlavaOnevisionForConditionalGeneration.

  `placeholders`: the ids of the image and of the video token.
  """
  tower, llm = build_towers(config)
  image_id, video_id = placeholders
  return {
    "model_type": "llava_onevision",
    "architectures": ["LlavaOnevisionForConditionalGeneration"],
    "torch_dtype": dtype,
    "image_token_index": image_id,
    "video_token_index": video_id,
    "ignore_index": -100,
    "projector_hidden_act": "gelu",
    "multimodal_projector_bias": True,
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
    "vision_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": image_grids(tower.size),
    "use_image_newline_parameter": True,
    "tie_word_embeddings": llm.tied,
    "text_config": llm_config(config["model"]["llm"]["name"], llm, dtype, vocabulary),
    "vision_config": siglip_config(tower),
    "transformers_version": "4.46.0",
    config_in.KEY: fila_settings(config, vocabulary),
  }


def llava_config(
  config: Mapping[str, Any],
  dtype: str,
  vocabulary: ExportVocabulary | None,
) -> dict[str, Any]:
  """config.json as LLaVA-NeXT's own code reads it."""
  tower, llm = build_towers(config)
  newline = config["model"]["projector"].get("newline", "one_token")
  released_tower = components.build("encoder", dict(name="siglip", variant=config_in.SO400M))
  tower_name = "siglip"
  if tower == released_tower:
    tower_name = "google/siglip-so400m-patch14-384"
  vision = {
    "model_type": "llava_qwen",
    "architectures": ["LlavaQwenForCausalLM"],
    "mm_vision_tower": tower_name,
    "mm_hidden_size": tower.width,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_patch_merge_type": "flat" if newline == "none" else "spatial_unpad",
    "mm_newline_position": "no_token" if newline == "none" else newline,
    "mm_spatial_pool_mode": "bilinear",
    "mm_spatial_pool_stride": 2,
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": image_grids(tower.size),
    "tokenizer_model_max_length": llm.positions,
    "tokenizer_padding_side": "right",
    "use_mm_proj": True,
    "transformers_version": "4.40.1",
    config_in.KEY: fila_settings(config, vocabulary),
  }
  return llm_config(config["model"]["llm"]["name"], llm, dtype, vocabulary) | vision


def flash_config(
  config: Mapping[str, Any],
  dtype: str,
  vocabulary: ExportVocabulary | None,
) -> dict[str, Any]:
  """config.json as VideoChat-Flash's released code reads it.

  Raises ValueError for newlines and pooling, which that code does not support.
  """
  tower, llm = build_towers(config)
  projector = components.build("projector", config["model"]["projector"], out=1)
  merger = components.build("merger", config["model"]["merger"], out=1)
  if projector.newline != "none" or projector.pool_side != 1:
    raise ValueError(
      f"--format videochat-flash has neither newlines nor pooling, but config.model.projector has "
      f"newline={projector.newline!r} and pool_side={projector.pool_side}."
    )
  tower_name = config["model"]["encoder"]["name"]
  if tower_name == "umt":
    tower_name = "umt-hd-large" if tower.size == 448 else "umt-large"
  vision = {
    "model_type": "videochat_flash_qwen",
    "architectures": ["VideoChatFlashQwenForCausalLM"],
    "mm_vision_tower": tower_name,
    "mm_hidden_size": tower.width,
    "mm_projector_type": f"tome{merger.tokens}_mlp_hd64",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_local_num_frames": tower.clip,
    "mm_pos_num_frames": 8,
    "vision_encode_type": "video_image",
    "mm_patch_merge_type": "spatial_nopad",
    "mm_newline_position": "nothing",
    "frame_aspect_ratio": "square",
    "frame_grid_pinpoints": None,
    "image_aspect_ratio": "anyres_nopad",
    "image_grid_pinpoints": image_grids(tower.size),
    "max_num_pixels": 14_745_600_000,
    "tokenizer_model_max_length": llm.positions,
    "tokenizer_padding_side": "right",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "use_mm_proj": True,
    **dropout_settings(llm),
    "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter",
    "mm_projector_lr": None,
    "use_pos_skipping": False,
    "pos_skipping_range": 4096,
    "vision_tower_pretrained": None,
    "transformers_version": "4.40.1",
    config_in.KEY: fila_settings(config, vocabulary),
  }
  return llm_config(config["model"]["llm"]["name"], llm, dtype, vocabulary) | vision


def dropout_settings(llm: Any) -> dict[str, Any]:
  """Visual dropout in the settings of VideoChat-Flash.

  It is off for an llm without stages. The inverse of filax.spec.dropout_stages.released. Raises
  ValueError for stages that the released code does not support.
  """
  if not llm.stages:
    return dict(
      mm_llm_compress=False,
      llm_compress_type="attention",
      llm_compress_layer_list=[24],
      llm_image_token_ratio_list=[1.0, 0.5],
    )
  kinds = [stage.kind for stage in llm.stages]
  is_uniform_first = kinds == sorted(kinds, reverse=True)
  if not is_uniform_first or llm.dropout_positions != "renumber":
    raise ValueError(
      f"--format videochat-flash drops uniformly first, then by attention, and renumbers "
      f"positions, but config.model.llm has dropout={llm.dropout!r} and "
      f"dropout_positions={llm.dropout_positions!r}."
    )
  compress_type = kinds[0]
  if len(set(kinds)) > 1:
    compress_type = f"uniform{kinds.count('uniform') - 1}_attention"
  return dict(
    mm_llm_compress=True,
    llm_compress_type=compress_type,
    llm_compress_layer_list=[stage.layer for stage in llm.stages],
    llm_image_token_ratio_list=[1.0, *(stage.ratio for stage in llm.stages)],
  )


def image_grids(size: int) -> list[list[int]]:
  """The canvases for tiled pictures.

  Heights and widths of 1 to 6 tiles, in pixels.
  """
  grids = []
  for rows in range(1, TILES + 1):
    grids += [[size * rows, size * columns] for columns in range(1, TILES + 1)]
  return grids


def build_towers(config: Mapping[str, Any]) -> tuple[Any, Any]:
  """The encoder and the llm of a config."""
  model = config["model"]
  encoder = components.build("encoder", model["encoder"])
  return encoder, components.build("llm", model["llm"])
