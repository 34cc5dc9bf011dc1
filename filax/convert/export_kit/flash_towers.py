# SPDX-License-Identifier: Apache-2.0
"""The vision side of VideoChat-Flash, under its released parameter names.

UMT and InternVideo2 read clips jointly; similar tokens of a clip are then merged (ToMe), in float32
and in a fixed order. Pixels are standardised with ImageNet's statistics.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def standardised_pixels(frames):
  """Pixels standardised with ImageNet's statistics.

  uint8 [T h w 3] -> float32 [T 3 h w].
  """
  x = torch.from_numpy(np.ascontiguousarray(frames)).float() / 255
  x = (x - torch.tensor(MEAN)) / torch.tensor(STD)
  return x.permute(0, 3, 1, 2)


class PatchProjection(nn.Module):
  """Patch embedding of clips.

  [B T 3 h w] -> [B T·N E], ordered by frame, row, column.
  """

  def __init__(self, width, patch):
    super().__init__()
    size = (1, patch, patch)
    self.proj = nn.Conv3d(3, width, size, size)

  def forward(self, x):
    x = self.proj(x.transpose(1, 2))
    return x.flatten(2).transpose(1, 2)


class FeedForward(nn.Module):
  def __init__(self, width, hidden):
    super().__init__()
    self.fc1 = nn.Linear(width, hidden)
    self.fc2 = nn.Linear(hidden, width)

  def forward(self, x):
    return self.fc2(F.gelu(self.fc1(x)))


def attend(q, k, v, heads):
  """Attention without a mask.

  [B N E] -> [B N E].
  """
  q = split_heads(q, heads)
  k = split_heads(k, heads)
  v = split_heads(v, heads)
  x = F.scaled_dot_product_attention(q, k, v)
  return x.transpose(1, 2).flatten(2)


def split_heads(x, heads):
  """Splits the width into heads.

  [B N E] -> [B H N E/H].
  """
  return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class UMTAttention(nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width, bias=False)
    self.q_bias = nn.Parameter(torch.zeros(width))
    self.v_bias = nn.Parameter(torch.zeros(width))
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    q, k, v = self.qkv(x).chunk(3, -1)
    x = attend(q + self.q_bias, k, v + self.v_bias, self.heads)
    return self.proj(x)


class UMTBlock(nn.Module):
  def __init__(self, width, heads, hidden):
    super().__init__()
    self.norm1 = nn.LayerNorm(width, eps=1e-6)
    self.norm2 = nn.LayerNorm(width, eps=1e-6)
    self.attn = UMTAttention(width, heads)
    self.mlp = FeedForward(width, hidden)

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class UMTTower(nn.Module):
  """The UMT video tower.

  Clips [B T 3 h w] -> [B T·N E]. Positions are computed, not stored.
  """

  def __init__(self, tower):
    super().__init__()
    width = tower["width"]
    self.tower = tower
    self.patch_embed = PatchProjection(width, tower["patch"])
    self.blocks = nn.ModuleList()
    for _ in range(tower["depth"]):
      self.blocks.append(UMTBlock(width, tower["heads"], tower["mlp"]))
    self.vision_layernorm = nn.LayerNorm(width, eps=1e-12)

  def embed(self, x):
    """Patches with their positions."""
    frames = x.shape[1]
    side = self.tower["size"] // self.tower["patch"]
    table = position_table(frames, side, self.tower)
    return self.patch_embed(x) + table.to(x)

  def forward(self, x):
    x = self.embed(x)
    for block in self.blocks:
      x = block(x)
    return self.vision_layernorm(x)


def position_table(frames, side, tower):
  """Sine positions of a clip, resampled to other sizes.

  float32 [T·N E], by the flat index of a place in the clip.
  """
  trained_frames, trained_side = tower["trained"]
  width = tower["width"]
  if frames == 1:
    trained_frames = 1
  channel = np.arange(width)
  place = np.arange(trained_frames * trained_side**2)[:, None]
  angle = place / 10_000 ** (2 * (channel // 2) / width)
  sines = np.where(channel % 2, np.cos(angle), np.sin(angle))
  table = torch.from_numpy(sines).float()
  if trained_frames != frames:
    series = table.reshape(1, trained_frames, -1).transpose(1, 2)
    series = F.interpolate(series, size=frames, mode="linear")
    table = series.transpose(1, 2).reshape(-1, width)
  if trained_side != side:
    maps = table.reshape(frames, trained_side, trained_side, width).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=(side, side), mode="bicubic")
    table = maps.permute(0, 2, 3, 1).reshape(-1, width)
  return table


class TowerRMSNorm(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(width))

  def forward(self, x):
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
    return self.weight * wide.to(x.dtype)


class TowerLayerScale(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(width))

  def forward(self, x):
    return (x.float() * self.weight.float()).to(x.dtype)


class VideoAttention(nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width, bias=False)
    self.q_norm = TowerRMSNorm(width)
    self.k_norm = TowerRMSNorm(width)
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    q, k, v = self.qkv(x).chunk(3, -1)
    x = attend(self.q_norm(q), self.k_norm(k), v, self.heads)
    return self.proj(x)


class VideoBlock(nn.Module):
  def __init__(self, width, heads, hidden):
    super().__init__()
    self.norm1 = TowerRMSNorm(width)
    self.norm2 = TowerRMSNorm(width)
    self.ls1 = TowerLayerScale(width)
    self.ls2 = TowerLayerScale(width)
    self.attn = VideoAttention(width, heads)
    self.mlp = FeedForward(width, hidden)

  def forward(self, x):
    x = x + self.ls1(self.attn(self.norm1(x)))
    return x + self.ls2(self.mlp(self.norm2(x)))


class InternVideo2Tower(nn.Module):
  """The InternVideo2 video tower.

  Clips [B T 3 h w] -> [B T·N E]; the class token is left out of the result.
  """

  def __init__(self, tower):
    super().__init__()
    width = tower["width"]
    patches = (tower["size"] // tower["patch"]) ** 2
    self.patch_embed = PatchProjection(width, tower["patch"])
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tower["clip"] * patches, width))
    self.img_pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
    self.blocks = nn.ModuleList()
    for _ in range(tower["depth"]):
      self.blocks.append(VideoBlock(width, tower["heads"], tower["mlp"]))

  def embed(self, x):
    """The class token and the patches, with their positions."""
    is_image = x.shape[1] == 1
    class_token = self.cls_token.expand(len(x), -1, -1)
    tokens = torch.cat([class_token, self.patch_embed(x)], 1)
    return tokens + (self.img_pos_embed if is_image else self.pos_embed)

  def forward(self, x):
    x = self.embed(x)
    for block in self.blocks:
      x = block(x)
    return x[:, 1:]


TOWERS = {"umt": UMTTower, "internvideo2": InternVideo2Tower}


def encode_frames(tower, spec, frames, chunk=4):
  """Features of frames, encoded jointly in clips.

  frames uint8 [T h w 3] -> [T N E]; `chunk` clips per call.
  """
  clips = standardised_pixels(frames).unflatten(0, (-1, spec["clip"]))
  clips = clips.to(next(tower.parameters()))
  clip_features = []
  for start in range(0, len(clips), chunk):
    clip_features.append(tower(clips[start : start + chunk]))
  features = torch.cat(clip_features)
  return features.unflatten(1, (spec["clip"], -1)).flatten(0, 1)


def merge_tokens(x, target, heads):
  """Similar token merging, [b p E] -> [b target E].

  Each round averages even tokens into their most similar odd tokens. After a round come the
  unmerged even tokens, most similar first, then the odd tokens.
  """
  dtype = x.dtype
  x = x.float()
  size = torch.ones_like(x[..., :1])
  while x.shape[1] > target:
    count = min(x.shape[1] // 2, x.shape[1] - target)
    x, size = merge_round(x, size, count, heads)
  return x.to(dtype)


def merge_round(x, size, count, heads):
  """Merges `count` even tokens into odd tokens.

  Returns the tokens and the number of input tokens in each.
  """
  metric = x.unflatten(-1, (heads, -1)).mean(2)
  metric = F.normalize(metric, dim=-1)
  even_metric = metric[:, ::2]
  odd_metric = metric[:, 1::2]
  similarity = even_metric @ odd_metric.transpose(1, 2)
  best, partner = similarity.max(-1)
  even = x[:, ::2]
  odd = x[:, 1::2]
  even_size = size[:, ::2]
  odd_size = size[:, 1::2]
  if count < even.shape[1]:
    order = best.argsort(dim=-1, descending=True, stable=True)
  else:
    order = torch.arange(count, device=x.device).expand(len(x), -1)
  merged = order[:, :count]
  unmerged = order[:, count:]
  target = partner.gather(1, merged)[..., None]
  moved = take_tokens(even * even_size, merged)
  moved_size = take_tokens(even_size, merged)
  total = odd * odd_size
  total = total.scatter_add(1, target.expand_as(moved), moved)
  odd_size = odd_size.scatter_add(1, target, moved_size)
  x = torch.cat([take_tokens(even, unmerged), total / odd_size], 1)
  size = torch.cat([take_tokens(even_size, unmerged), odd_size], 1)
  return x, size


def take_tokens(x, index):
  """Gathers tokens by index.

  x [b p E], index [b k] -> [b k E].
  """
  width = x.shape[-1]
  index = index[..., None].expand(-1, -1, width)
  return x.gather(1, index)
