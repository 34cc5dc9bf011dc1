# SPDX-License-Identifier: Apache-2.0
"""The vision side of VideoChat-Flash in plain torch, under the released parameter names.

UMT and InternVideo2 read clips jointly; similar tokens of a clip are then merged (ToMe), in float32
and in a fixed order. Pixels are standardised with ImageNet's statistics.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(frames):
  """uint8 [T h w 3] -> float32 [T 3 h w]."""
  x = torch.from_numpy(np.ascontiguousarray(frames)).float() / 255
  return ((x - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
  """[B T 3 h w] -> [B T·N E], ordered by frame, row, column."""

  def __init__(self, width, patch):
    super().__init__()
    self.proj = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch))

  def forward(self, x):
    return self.proj(x.transpose(1, 2)).flatten(2).transpose(1, 2)


class MLP(nn.Module):
  def __init__(self, width, hidden):
    super().__init__()
    self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

  def forward(self, x):
    return self.fc2(F.gelu(self.fc1(x)))


def attend(q, k, v, heads):
  """[B N E] -> [B N E], every token sees every other."""
  split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
  return F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)


class UMTAttention(nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width, bias=False)
    self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    q, k, v = self.qkv(x).chunk(3, -1)
    return self.proj(attend(q + self.q_bias, k, v + self.v_bias, self.heads))


class UMTBlock(nn.Module):
  def __init__(self, width, heads, hidden):
    super().__init__()
    self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
    self.attn, self.mlp = UMTAttention(width, heads), MLP(width, hidden)

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class UMT(nn.Module):
  """Clips [B T 3 h w] -> [B T·N E]. Positions are computed, not stored."""

  def __init__(self, tower):
    super().__init__()
    self.tower, width = tower, tower["width"]
    self.patch_embed = PatchEmbed(width, tower["patch"])
    self.blocks = nn.ModuleList(
      UMTBlock(width, tower["heads"], tower["mlp"]) for _ in range(tower["depth"])
    )
    self.vision_layernorm = nn.LayerNorm(width, eps=1e-12)

  def embed(self, x):
    frames, side = x.shape[1], self.tower["size"] // self.tower["patch"]
    return self.patch_embed(x) + positions(frames, side, self.tower).to(x)

  def forward(self, x):
    x = self.embed(x)
    for block in self.blocks:
      x = block(x)
    return self.vision_layernorm(x)


def positions(frames, side, tower):
  """float32 [T·N E]: sines of the flat place in a clip, enlarged to other sizes."""
  trained, width = tower["trained"], tower["width"]
  first, square = (1 if frames == 1 else trained[0]), trained[1]
  channel, place = np.arange(width), np.arange(first * square**2)[:, None]
  angle = place / 10_000 ** (2 * (channel // 2) / width)
  table = torch.from_numpy(np.where(channel % 2, np.cos(angle), np.sin(angle))).float()
  if first != frames:
    series = table.reshape(1, first, -1).transpose(1, 2)
    table = F.interpolate(series, size=frames, mode="linear").transpose(1, 2).reshape(-1, width)
  if square != side:
    maps = table.reshape(frames, square, square, width).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=(side, side), mode="bicubic")
    table = maps.permute(0, 2, 3, 1).reshape(-1, width)
  return table


class RMSNorm(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(width))

  def forward(self, x):
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
    return self.weight * wide.to(x.dtype)


class LayerScale(nn.Module):
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
    self.q_norm, self.k_norm = RMSNorm(width), RMSNorm(width)
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    q, k, v = self.qkv(x).chunk(3, -1)
    return self.proj(attend(self.q_norm(q), self.k_norm(k), v, self.heads))


class VideoBlock(nn.Module):
  def __init__(self, width, heads, hidden):
    super().__init__()
    self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
    self.ls1, self.ls2 = LayerScale(width), LayerScale(width)
    self.attn, self.mlp = VideoAttention(width, heads), MLP(width, hidden)

  def forward(self, x):
    x = x + self.ls1(self.attn(self.norm1(x)))
    return x + self.ls2(self.mlp(self.norm2(x)))


class InternVideo2(nn.Module):
  """Clips [B T 3 h w] -> [B T·N E]; the class token is left out of the result."""

  def __init__(self, tower):
    super().__init__()
    width, patches = tower["width"], (tower["size"] // tower["patch"]) ** 2
    self.patch_embed = PatchEmbed(width, tower["patch"])
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tower["clip"] * patches, width))
    self.img_pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
    self.blocks = nn.ModuleList(
      VideoBlock(width, tower["heads"], tower["mlp"]) for _ in range(tower["depth"])
    )

  def embed(self, x):
    table = self.img_pos_embed if x.shape[1] == 1 else self.pos_embed
    return torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], 1) + table

  def forward(self, x):
    x = self.embed(x)
    for block in self.blocks:
      x = block(x)
    return x[:, 1:]


TOWERS = {"umt": UMT, "internvideo2": InternVideo2}


def encode(tower, spec, frames, chunk=4):
  """frames uint8 [T h w 3] -> features [T N E], `clip` frames read jointly."""
  x = pixels(frames).unflatten(0, (-1, spec["clip"])).to(next(tower.parameters()))
  out = torch.cat([tower(x[i : i + chunk]) for i in range(0, len(x), chunk)])
  return out.unflatten(1, (spec["clip"], -1)).flatten(0, 1)


def merge(x, target, heads):
  """[b p E] -> [b target E]: even tokens are averaged into their most similar odd one, repeatedly.

  After a round come the unmerged even tokens, most similar first, then the odd ones.
  """
  kind, x = x.dtype, x.float()
  size = torch.ones_like(x[..., :1])
  while x.shape[1] > target:
    count = min(x.shape[1] // 2, x.shape[1] - target)
    metric = F.normalize(x.unflatten(-1, (heads, -1)).mean(2), dim=-1)
    best, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(-1)
    even, odd, even_size, odd_size = x[:, ::2], x[:, 1::2], size[:, ::2], size[:, 1::2]
    order = (
      best.argsort(-1, descending=True, stable=True)
      if count < even.shape[1]
      else torch.arange(count, device=x.device).expand(len(x), -1)
    )
    take = lambda a, index: a.gather(1, index[..., None].expand(-1, -1, a.shape[-1]))
    gone, rest = order[:, :count], order[:, count:]
    to = partner.gather(1, gone)[..., None]
    moved = take(even * even_size, gone)
    total = (odd * odd_size).scatter_add(1, to.expand_as(moved), moved)
    odd_size = odd_size.scatter_add(1, to, take(even_size, gone))
    x = torch.cat([take(even, rest), total / odd_size], 1)
    size = torch.cat([take(even_size, rest), odd_size], 1)
  return x.to(kind)
