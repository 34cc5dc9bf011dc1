# SPDX-License-Identifier: Apache-2.0
"""Random tiny LLaVA-OneVision models of transformers, written under every name they ever had."""

import json
import pathlib

import numpy as np
from safetensors.torch import save_file
import torch
import transformers

transformers.logging.set_verbosity_error()

IMAGE, VIDEO = 150, 151  # Ids of the placeholders.
VOCAB = 160


def tiny(grid=3, tied=False, layers=3, seed=0, vocab=VOCAB, feature_layer=-1, rope=1e6):
  """A model with 14-pixel patches on a grid x grid picture; everything is drawn at random."""
  vision = transformers.SiglipVisionConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=layers,
    num_attention_heads=4,
    image_size=14 * grid,
    patch_size=14,
    vision_use_head=False,
  )
  text = transformers.Qwen2Config(
    vocab_size=vocab,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rope_parameters=dict(rope_type="default", rope_theta=rope),
    tie_word_embeddings=tied,
    rms_norm_eps=1e-6,
    bos_token_id=None,
    eos_token_id=None,
  )
  config = transformers.LlavaOnevisionConfig(
    vision_config=vision,
    text_config=text,
    image_token_index=IMAGE,
    video_token_index=VIDEO,
    tie_word_embeddings=tied,
    vision_feature_layer=feature_layer,
    image_grid_pinpoints=[[14 * grid, 14 * grid]],
  )
  return random_(transformers.LlavaOnevisionForConditionalGeneration(config), seed).eval()


def random_(model, seed=0, std=0.2):
  """Norms about 1 and biases about 0, not exactly: fresh ones would hide a wrong name."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.normal_(
        1.0 if "norm" in name and name.endswith("weight") else 0.0, std, generator=generator
      )
  return model


def named(name: str, scheme: str) -> str:
  """A name of scheme C (the state dict of transformers >= 5.6) in another scheme."""
  if scheme == "C":
    return name
  if scheme == "B":
    return name.replace("model.vision_tower.", "model.vision_tower.vision_model.")
  if scheme == "E":
    for old, new in (
      ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
      ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
      ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
      ("model.language_model.", "model."),
    ):
      if name.startswith(old):
        return new + name[len(old) :]
    return name
  name = name.removeprefix("model.")
  if name.startswith("lm_head"):
    return f"language_model.{name}"
  name = name.replace("language_model.", "language_model.model.")
  return name.replace("vision_tower.", "vision_tower.vision_model.") if scheme == "A" else name


def state(model, scheme: str, dtype=torch.float32) -> dict:
  """The tensors of a model under the names of a scheme, as files hold them (no tied copy)."""
  tied = model.config.text_config.tie_word_embeddings
  return {
    named(name, scheme): x.detach().to(dtype).clone()
    for name, x in model.state_dict().items()
    if not (tied and name == "lm_head.weight")
  }


def write(
  folder, model, scheme: str, dtype=torch.float32, shards=1, index=True, legacy=True, pickled=False
):
  """Writes a folder as the hub has it: config.json, and one file or several with an index."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = state(model, scheme, dtype)
  names = sorted(tensors)
  groups = [names[i::shards] for i in range(shards)]
  weight_map = {}
  for i, group in enumerate(groups, 1):
    stem, end = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    file = f"{stem}.{end}" if shards == 1 else f"{stem}-{i:05d}-of-{shards:05d}.{end}"
    if pickled:
      torch.save({name: tensors[name] for name in group}, folder / file)
    else:
      save_file({name: tensors[name] for name in group}, folder / file, {"format": "pt"})
    weight_map |= dict.fromkeys(group, file)
  if shards > 1 and index:
    (folder / f"{stem}.{end}.index.json").write_text(
      json.dumps(dict(metadata={}, weight_map=weight_map))
    )
  (folder / "config.json").write_text(json.dumps(config_of(model, scheme, legacy)))
  return folder


def config_of(model, scheme: str, legacy: bool) -> dict:
  """config.json as transformers 5 writes it, as 4 did (`legacy`), or as LLaVA-NeXT does (E)."""
  config = json.loads(model.config.to_json_string(use_diff=False))
  text = config["text_config"]
  if legacy or scheme == "E":
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    text["rope_scaling"] = None
    text.pop("layer_types", None)
  if scheme == "E":
    return text | dict(
      model_type="llava_qwen",
      mm_vision_tower="a/local/tower",
      mm_hidden_size=32,
      mm_projector_type="mlp2x_gelu",
      mm_patch_merge_type="spatial_unpad",
      mm_vision_select_layer=-2,
    )
  return config


def sizes(model) -> dict[str, object]:
  """--set values for the tower of a scheme E folder, whose config.json does not describe it."""
  vision = model.config.vision_config
  return {
    "encoder.size": vision.image_size,
    "encoder.patch": vision.patch_size,
    "encoder.width": vision.hidden_size,
    "encoder.depth": vision.num_hidden_layers,
    "encoder.heads": vision.num_attention_heads,
    "encoder.mlp": vision.intermediate_size,
  }


def pixels(frames: np.ndarray) -> torch.Tensor:
  """uint8 [T h w 3] -> float32 [1 T 3 h w] between -1 and 1."""
  x = torch.tensor(frames).permute(0, 3, 1, 2)[None]
  return (x.float() / 255 - 0.5) / 0.5
