# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video for transformers >= 4.52 with trust_remote_code: LLaVA-OneVision that fuses frames.

Groups of K consecutive frames of `pixel_values_videos` become one set of tokens each. Write one
<video> token per token of the result into the text: groups x tokens + 1. K, the stage at which
frames are fused and the newlines are in config.json, "fila_config".
"""

import math

import torch
from torch import nn
from transformers import LlavaOnevisionForConditionalGeneration


class SceneMerger(nn.Module):
  """[G K N E] -> [G N E]: a learned weight for every frame slot, token and channel, in float32."""

  def __init__(self, shape):
    super().__init__()
    self.weight = nn.Parameter(torch.full(shape, 1 / shape[0], dtype=torch.float32))

  def forward(self, x):
    return (x.float() * self.weight.float()).sum(1).to(x)


class FilaForConditionalGeneration(LlavaOnevisionForConditionalGeneration):
  """The stock class with a fusion of frames in front of (or behind) its projector."""

  def __init__(self, config):
    super().__init__(config)
    own = config.fila_config["model"]
    self.fila = own
    if own["merger"]["name"] == "weighted":
      self.model.scene_merger = SceneMerger(fusion_shape(config, own))
      self._keep_in_fp32_modules = self._keep_in_fp32_modules_strict = ["scene_merger"]
    self.post_init()

  def _init_weights(self, module):
    super()._init_weights(module)
    if isinstance(module, SceneMerger):  # Modules are first made without memory.
      nn.init.constant_(module.weight, 1 / module.weight.shape[0])

  def forward(
    self, input_ids=None, pixel_values_videos=None, inputs_embeds=None, logits_to_keep=0, **kwargs
  ):
    if pixel_values_videos is not None:
      if inputs_embeds is None:
        inputs_embeds = self.get_input_embeddings()(input_ids)
      mask = input_ids == self.config.video_token_index
      tokens = torch.cat([self.fused(video) for video in pixel_values_videos]).to(inputs_embeds)
      if int(mask.sum()) != len(tokens):
        raise ValueError(f"{int(mask.sum())} <video> tokens for a video of {len(tokens)}.")
      inputs_embeds = inputs_embeds.masked_scatter(mask[..., None], tokens)
      pixels = kwargs.pop("pixel_values", None)
      if pixels is not None:
        raise ValueError("Pictures and videos in one call are not supported here.")
      input_ids = None
    return super().forward(
      input_ids=input_ids, inputs_embeds=inputs_embeds, logits_to_keep=logits_to_keep, **kwargs
    )

  def fused(self, frames):
    """Frames [T 3 h w], already normalised -> the tokens of a video [M D]."""
    size, own = self.fila["selector"]["size"], self.fila
    if len(frames) % size:
      raise ValueError(f"{len(frames)} frames are not whole groups of {size}.")
    states = self.model.vision_tower(frames, output_hidden_states=True).hidden_states
    x = states[self.config.vision_feature_layer].unflatten(0, (-1, size))
    project, side = self.model.multi_modal_projector, own["projector"]["pool_side"]
    if own["merge_stage"] == "vision":
      x = pool(project(self.merge(x)), side)
    elif own["merge_stage"] == "projector":
      x = pool(self.merge(project(x.flatten(0, 1)).unflatten(0, (-1, size))), side)
    else:
      x = self.merge(pool(project(x.flatten(0, 1)), side).unflatten(0, (-1, size)))
    return end(x, self.model.image_newline, own["projector"]["newline"])

  def merge(self, x):
    if hasattr(self.model, "scene_merger"):
      return self.model.scene_merger(x)
    return x.float().mean(1).to(x)


def fusion_shape(config, own):
  """(K, N, E) at the stage where frames are fused."""
  grid = config.vision_config.image_size // config.vision_config.patch_size
  width = config.text_config.hidden_size
  if own["merge_stage"] == "vision":
    width = config.vision_config.hidden_size
  if own["merge_stage"] == "pool":
    grid = math.ceil(grid / own["projector"]["pool_side"])
  return own["selector"]["size"], grid * grid, width


def pool(x, side):
  """[G N D] -> [G M D]: bilinear, to ceil(side of the grid / `side`)."""
  if side == 1:
    return x
  grid = math.isqrt(x.shape[1])
  out = math.ceil(grid / side)
  x = x.transpose(1, 2).unflatten(2, (grid, grid))
  x = nn.functional.interpolate(x.float(), size=(out, out), mode="bilinear").to(x)
  return x.flatten(2).transpose(1, 2)


def end(x, newline, mode):
  """[G N D] -> [M D] with the newline vector where the model was trained to find it."""
  groups, tokens, width = x.shape
  if mode == "none":
    return x.flatten(0, 1)
  if mode == "one_token":
    return torch.cat([x.flatten(0, 1), newline[None].to(x)])
  rows = math.isqrt(tokens) if mode == "grid" else 1
  x = x.reshape(groups * rows, tokens // rows, width)
  return torch.cat([x, newline.to(x).expand(len(x), 1, width)], 1).flatten(0, 1)
