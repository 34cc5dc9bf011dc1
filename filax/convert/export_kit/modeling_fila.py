# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video for transformers >= 4.52 with trust_remote_code.

LLaVA-OneVision with a fusion of frames. Groups of K consecutive frames of `pixel_values_videos`
become one set of tokens each. Write one <video> token per token of the result into the text:
groups x tokens + 1. K, the stage at which frames are fused and the newlines are in config.json,
"fila_config".
"""

import math

import torch
from torch import nn
from transformers import LlavaOnevisionForConditionalGeneration


class SceneMerger(nn.Module):
  """Weighted sum over the frames of a scene.

  [G K N E] -> [G N E]: a learned weight for every frame slot, token and channel, in float32.
  """

  def __init__(self, shape):
    super().__init__()
    mean = torch.full(shape, 1 / shape[0], dtype=torch.float32)
    self.weight = nn.Parameter(mean)

  def forward(self, x):
    return (x.float() * self.weight.float()).sum(1).to(x)


class FilaForConditionalGeneration(LlavaOnevisionForConditionalGeneration):
  """The stock class with a fusion of frames around its projector."""

  def __init__(self, config):
    super().__init__(config)
    self.fila = config.fila_config["model"]
    if self.fila["merger"]["name"] == "weighted":
      self.model.scene_merger = SceneMerger(fusion_shape(config, self.fila))
      self._keep_in_fp32_modules = ["scene_merger"]
      self._keep_in_fp32_modules_strict = ["scene_merger"]
    self.post_init()

  def _init_weights(self, module):
    super()._init_weights(module)
    if isinstance(module, SceneMerger):  # from_pretrained creates modules without memory.
      nn.init.constant_(module.weight, 1 / module.weight.shape[0])

  def forward(
    self, input_ids=None, pixel_values_videos=None, inputs_embeds=None, logits_to_keep=0, **kwargs
  ):
    if pixel_values_videos is not None:
      if kwargs.pop("pixel_values", None) is not None:
        raise ValueError("Pictures and videos in one call are not supported here.")
      inputs_embeds = self.splice(input_ids, inputs_embeds, pixel_values_videos)
      input_ids = None
    return super().forward(
      input_ids=input_ids, inputs_embeds=inputs_embeds, logits_to_keep=logits_to_keep, **kwargs
    )

  def splice(self, input_ids, inputs_embeds, videos):
    """Embedded text with the videos' tokens in place of <video>."""
    if inputs_embeds is None:
      inputs_embeds = self.get_input_embeddings()(input_ids)
    mask = input_ids == self.config.video_token_index
    tokens = torch.cat([self.fused(video) for video in videos]).to(inputs_embeds)
    count = int(mask.sum())
    if count != len(tokens):
      raise ValueError(f"{count} <video> tokens for a video of {len(tokens)}.")
    return inputs_embeds.masked_scatter(mask[..., None], tokens)

  def fused(self, frames):
    """Visual tokens of a video.

    Normalised frames [T 3 h w] -> [M D].
    """
    size = self.fila["selector"]["size"]
    if len(frames) % size:
      raise ValueError(f"{len(frames)} frames are not whole groups of {size}.")
    states = self.model.vision_tower(frames, output_hidden_states=True).hidden_states
    groups = states[self.config.vision_feature_layer].unflatten(0, (-1, size))
    project = self.model.multi_modal_projector
    side = self.fila["projector"]["pool_side"]
    stage = self.fila["merge_stage"]
    if stage == "vision":
      x = pool_tokens(project(self.merge(groups)), side)
    elif stage == "projector":
      x = project(groups.flatten(0, 1)).unflatten(0, (-1, size))
      x = pool_tokens(self.merge(x), side)
    else:
      x = pool_tokens(project(groups.flatten(0, 1)), side)
      x = self.merge(x.unflatten(0, (-1, size)))
    return add_newlines(x, self.model.image_newline, self.fila["projector"]["newline"])

  def merge(self, x):
    """Fuses the frames of each scene.

    [G K N E] -> [G N E].
    """
    if hasattr(self.model, "scene_merger"):
      return self.model.scene_merger(x)
    return x.float().mean(1).to(x)


def fusion_shape(config, model):
  """(K, N, E) at the stage where frames are fused."""
  grid = config.vision_config.image_size // config.vision_config.patch_size
  width = config.text_config.hidden_size
  if model["merge_stage"] == "vision":
    width = config.vision_config.hidden_size
  if model["merge_stage"] == "pool":
    grid = math.ceil(grid / model["projector"]["pool_side"])
  return model["selector"]["size"], grid * grid, width


def pool_tokens(x, side):
  """Bilinear pooling of token grids.

  [G N D] -> [G M D], to ceil(side of the grid / `side`).
  """
  if side == 1:
    return x
  grid = math.isqrt(x.shape[1])
  out = math.ceil(grid / side)
  maps = x.transpose(1, 2).unflatten(2, (grid, grid)).float()
  maps = nn.functional.interpolate(maps, size=(out, out), mode="bilinear")
  return maps.to(x).flatten(2).transpose(1, 2)


def add_newlines(x, newline, mode):
  """Adds newline vectors as in training.

  [G N D] -> [M D].
  """
  groups, tokens, width = x.shape
  if mode == "none":
    return x.flatten(0, 1)
  newline = newline.to(x)
  if mode == "one_token":
    return torch.cat([x.flatten(0, 1), newline[None]])
  rows = math.isqrt(tokens) if mode == "grid" else 1
  lines = x.reshape(groups * rows, tokens // rows, width)
  newlines = newline.expand(len(lines), 1, width)
  return torch.cat([lines, newlines], 1).flatten(0, 1)
