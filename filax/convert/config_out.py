# SPDX-License-Identifier: Apache-2.0
"""The JSON files of an exported folder: config.json in the words of others, processors, ..."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from filax.convert import config_in
from filax.models import components
from filax.ops import rope

RUN_KEYS = (  # Of config.data.
  "template",
  "system",
  "labels",
  "time_prompt",
  "images",
  "sampling",
  "resize",
)
HIDDEN = ("dtype", "param_dtype", "remat", "attention", "parent", "name", "processor")
TILES = 6  # LLaVA-OneVision's grids go up to 6 x 6 tiles.


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """What an export must know of the tokenizer: plain ids."""

  tokens: int  # Ids from here on are never produced.
  pad: int
  stop: tuple[int, ...]
  controls: Mapping[str, int]
  start: int | None = None  # The id that opens a text, for configs that want one.


def settings(config: Mapping[str, Any], vocabulary: Vocabulary | None) -> dict[str, Any]:
  """What our own software and run_torch.py read back: every size spelled out."""
  model = {
    key: spelled(key, value) if key in components.ROLES else value
    for key, value in config["model"].items()
    if key not in ("dtype", "param_dtype")
  }
  found = dict(model=model)
  if "infer" in config:
    found["infer"] = config["infer"]
    selector = components.build("selector", config["infer"]["selector"])
    found["representative"] = getattr(selector, "representative", selector.size // 2)
  if "data" in config:
    found["data"] = {key: config["data"][key] for key in RUN_KEYS if key in config["data"]}
  if vocabulary is not None:
    found |= dict(
      tokens=vocabulary.tokens,
      pad=vocabulary.pad,
      stop=list(vocabulary.stop),
      controls=sorted(vocabulary.controls.values()),
    )
  return found


def spelled(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
  """A part of config.model without its variant's name: all that decides the numbers."""
  component = components.build(role, part)
  fields = {
    key: getattr(component, key)
    for key in component.__dataclass_fields__
    if key not in HIDDEN and key != "out"
  }
  return dict(name=part["name"]) | fields


def qwen2(llm: Any, dtype: str, vocabulary: Vocabulary | None) -> dict[str, Any]:
  """A Qwen2Config that transformers 4 and 5 read the same way: rope_theta, not rope_parameters."""
  yarn = llm.yarn and dict(
    type="yarn",
    rope_type="yarn",
    factor=llm.yarn[0],
    original_max_position_embeddings=llm.yarn[1],
    **rope.yarn_options(llm.yarn),
  )
  ids = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
  if vocabulary is not None:
    stop = vocabulary.stop[0] if vocabulary.stop else None
    ids = dict(bos_token_id=vocabulary.pad, eos_token_id=stop, pad_token_id=vocabulary.pad)
  return dict(
    model_type="qwen2",
    architectures=["Qwen2ForCausalLM"],
    hidden_size=llm.width,
    intermediate_size=llm.mlp,
    num_hidden_layers=llm.depth,
    num_attention_heads=llm.heads,
    num_key_value_heads=llm.kv_heads,
    head_dim=llm.head_dim,
    vocab_size=llm.vocab,
    max_position_embeddings=llm.positions,
    rope_theta=llm.theta,
    rope_scaling=yarn or None,
    rms_norm_eps=llm.eps,
    hidden_act="silu",
    tie_word_embeddings=llm.tied,
    attention_dropout=0.0,
    use_sliding_window=False,
    sliding_window=llm.positions,
    max_window_layers=llm.depth,
    use_cache=True,
    initializer_range=0.02,
    torch_dtype=dtype,
    **ids,
  )


def siglip(tower: Any) -> dict[str, Any]:
  """A SiglipVisionConfig of the blocks that are used, without the pooling head."""
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


def llava_onevision(
  config: Mapping[str, Any], dtype: str, vocabulary: Vocabulary | None, places: tuple[int, int]
) -> dict[str, Any]:
  """config.json of LlavaOnevisionForConditionalGeneration; `places`: image and video token ids."""
  tower, llm = _parts(config)
  text = qwen2(llm, dtype, vocabulary)
  image, video = places
  return dict(
    model_type="llava_onevision",
    architectures=["LlavaOnevisionForConditionalGeneration"],
    torch_dtype=dtype,
    image_token_index=image,
    video_token_index=video,
    ignore_index=-100,
    projector_hidden_act="gelu",
    multimodal_projector_bias=True,
    vision_feature_layer=-1,
    vision_feature_select_strategy="full",
    vision_aspect_ratio="anyres_max_9",
    image_grid_pinpoints=pinpoints(tower.size),
    use_image_newline_parameter=True,
    tie_word_embeddings=llm.tied,
    text_config=text,
    vision_config=siglip(tower),
    transformers_version="4.46.0",
  ) | {config_in.KEY: settings(config, vocabulary)}


def llava(config: Mapping[str, Any], dtype: str, vocabulary: Vocabulary | None) -> dict[str, Any]:
  """config.json as LLaVA-NeXT's own code reads it."""
  tower, llm = _parts(config)
  newline = config["model"]["projector"].get("newline", "one_token")
  known = tower == components.build("encoder", dict(name="siglip", variant=config_in.SO400M))
  text = qwen2(llm, dtype, vocabulary)
  return (
    text
    | dict(
      model_type="llava_qwen",
      architectures=["LlavaQwenForCausalLM"],
      mm_vision_tower="google/siglip-so400m-patch14-384" if known else "siglip",
      mm_hidden_size=tower.width,
      mm_projector_type="mlp2x_gelu",
      mm_vision_select_layer=-2,
      mm_vision_select_feature="patch",
      mm_patch_merge_type="flat" if newline == "none" else "spatial_unpad",
      mm_newline_position="no_token" if newline == "none" else newline,
      mm_spatial_pool_mode="bilinear",
      mm_spatial_pool_stride=2,
      mm_use_im_start_end=False,
      mm_use_im_patch_token=False,
      image_aspect_ratio="anyres_max_9",
      image_grid_pinpoints=pinpoints(tower.size),
      tokenizer_model_max_length=llm.positions,
      tokenizer_padding_side="right",
      use_mm_proj=True,
      transformers_version="4.40.1",
    )
    | {config_in.KEY: settings(config, vocabulary)}
  )


def flash(config: Mapping[str, Any], dtype: str, vocabulary: Vocabulary | None) -> dict[str, Any]:
  """config.json as VideoChat-Flash's released code reads it. Raises ValueError for newlines and
  pooling, which that code does not have."""
  tower, llm = _parts(config)
  projector, merger = (
    components.build(r, config["model"][r], out=1) for r in ("projector", "merger")
  )
  if projector.newline != "none" or projector.pool_side != 1:
    raise ValueError(
      f"--format videochat-flash has neither newlines nor pooling, but config.model.projector has "
      f"newline={projector.newline!r} and pool_side={projector.pool_side}."
    )
  off = dict(
    mm_llm_compress=False,
    llm_compress_type="attention",
    llm_compress_layer_list=[24],
    llm_image_token_ratio_list=[1.0, 0.5],
  )
  name = config["model"]["encoder"]["name"]
  umt = "umt-hd-large" if tower.size == 448 else "umt-large"
  return (
    qwen2(llm, dtype, vocabulary)
    | dict(
      model_type="videochat_flash_qwen",
      architectures=["VideoChatFlashQwenForCausalLM"],
      mm_vision_tower=umt if name == "umt" else name,
      mm_hidden_size=tower.width,
      mm_projector_type=f"tome{merger.tokens}_mlp_hd64",
      mm_vision_select_layer=-2,
      mm_vision_select_feature="patch",
      mm_local_num_frames=tower.clip,
      mm_pos_num_frames=8,
      vision_encode_type="video_image",
      mm_patch_merge_type="spatial_nopad",
      mm_newline_position="nothing",
      frame_aspect_ratio="square",
      frame_grid_pinpoints=None,
      image_aspect_ratio="anyres_nopad",
      image_grid_pinpoints=pinpoints(tower.size),
      max_num_pixels=14_745_600_000,
      tokenizer_model_max_length=llm.positions,
      tokenizer_padding_side="right",
      mm_use_im_start_end=False,
      mm_use_im_patch_token=False,
      use_mm_proj=True,
      **(compress(llm) if llm.stages else off),
      mm_tunable_parts="mm_vision_tower,mm_mlp_adapter",
      mm_projector_lr=None,
      use_pos_skipping=False,
      pos_skipping_range=4096,
      vision_tower_pretrained=None,
      transformers_version="4.40.1",
    )
    | {config_in.KEY: settings(config, vocabulary)}
  )


def compress(llm: Any) -> dict[str, Any]:
  """Visual dropout in the settings of VideoChat-Flash.

  The inverse of filax.spec.dropout_stages.released. Raises ValueError for stages that the released
  code has no setting for.
  """
  kinds = [stage.kind for stage in llm.stages]
  uniform = kinds.count("uniform")
  if kinds != sorted(kinds, reverse=True) or llm.dropout_positions != "renumber":
    raise ValueError(
      f"--format videochat-flash drops uniformly first, then by attention, and renumbers "
      f"positions, but config.model.llm has dropout={llm.dropout!r} and "
      f"dropout_positions={llm.dropout_positions!r}."
    )
  mixed = f"uniform{uniform - 1}_attention"
  return dict(
    mm_llm_compress=True,
    llm_compress_type=kinds[0] if len(set(kinds)) == 1 else mixed,
    llm_compress_layer_list=[stage.layer for stage in llm.stages],
    llm_image_token_ratio_list=[1.0, *(stage.ratio for stage in llm.stages)],
  )


def qwen2_alone(
  config: Mapping[str, Any], dtype: str, vocabulary: Vocabulary | None
) -> dict[str, Any]:
  """config.json of the language model alone."""
  llm = components.build("llm", config["model"]["llm"])
  return qwen2(llm, dtype, vocabulary) | dict(transformers_version="4.46.0")


def pinpoints(size: int) -> list[list[int]]:
  """The canvases that pictures are tiled on: heights and widths of 1 to 6 tiles."""
  return [[size * i, size * j] for i in range(1, TILES + 1) for j in range(1, TILES + 1)]


def processors(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """The legacy trio of processor files, read by transformers 4 and 5."""
  tower, _ = _parts(config)
  pictures = dict(
    do_resize=True,
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    do_convert_rgb=True,
    resample=3,
    size=dict(height=tower.size, width=tower.size),
    image_mean=[0.5] * 3,
    image_std=[0.5] * 3,
    processor_class="LlavaOnevisionProcessor",
  )
  return {
    "preprocessor_config.json": pictures
    | dict(
      image_processor_type="LlavaOnevisionImageProcessor",
      do_pad=True,
      image_grid_pinpoints=pinpoints(tower.size),
    ),
    "video_preprocessor_config.json": pictures
    | dict(video_processor_type="LlavaOnevisionVideoProcessor"),
    "processor_config.json": dict(
      processor_class="LlavaOnevisionProcessor",
      num_image_tokens=math.prod(tower.grid),
      vision_feature_select_strategy="full",
      image_token="<image>",
      video_token="<video>",
      vision_aspect_ratio="anyres_max_9",
    ),
    "chat_template.json": dict(chat_template=chat_template(config)),
  }


def chat_template(config: Mapping[str, Any]) -> str:
  """ChatML with the pictures before the text, and the system turn that the model was trained on."""
  system = config.get("data", {}).get("system", "")
  first = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
  return (
    "{% if messages and messages[0]['role'] != 'system' %}" + first + "{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] in ('image', 'video') %}"
    "<{{ part['type'] }}>\n{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
  )


def generation(vocabulary: Vocabulary) -> dict[str, Any]:
  """generation_config.json: greedy, as evaluations are run."""
  return dict(
    bos_token_id=vocabulary.pad,
    pad_token_id=vocabulary.pad,
    eos_token_id=list(vocabulary.stop),
    do_sample=False,
    transformers_version="4.46.0",
  )


def tokenizer_config(config: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
  """A tokenizer_config.json for a tokenizer.json that came without one."""
  name = {id: text for text, id in vocabulary.controls.items()}
  stop = vocabulary.stop[0] if vocabulary.stop else vocabulary.pad
  return dict(
    tokenizer_class="PreTrainedTokenizerFast",
    clean_up_tokenization_spaces=False,
    eos_token=name.get(stop),
    pad_token=name.get(vocabulary.pad),
    padding_side="right",
    model_max_length=10**9,
    chat_template=chat_template(config),
  )


def _parts(config: Mapping[str, Any]) -> tuple[Any, Any]:
  model = config["model"]
  return components.build("encoder", model["encoder"]), components.build("llm", model["llm"])
