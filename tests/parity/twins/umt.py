# SPDX-License-Identifier: Apache-2.0
"""A torch twin of the released UMT tower, under its parameter names, for parity tests only."""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F


def sine_table(places: int, width: int) -> np.ndarray:
  """float64 [places width], entry by entry."""
  table = np.zeros((places, width))
  for place in range(places):
    for channel in range(width):
      angle = place / np.power(10_000, 2 * (channel // 2) / width)
      table[place, channel] = np.sin(angle) if channel % 2 == 0 else np.cos(angle)
  return table


def positions(frames: int, side: int, width: int, trained=(4, 14)) -> torch.Tensor:
  """float32 [frames·side² width]."""
  first = 1 if frames == 1 else trained[0]
  table = torch.tensor(sine_table(first * trained[1] ** 2, width), dtype=torch.float32)
  if first != frames:
    series = table.view(first, -1).T[None]  # [1, cells·width, first]
    table = F.interpolate(series, size=frames, mode="linear")[0].T.reshape(-1, width)
  if trained[1] != side:
    maps = table.view(frames, trained[1], trained[1], width).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=(side, side), mode="bicubic", align_corners=False)
    table = maps.permute(0, 2, 3, 1).reshape(-1, width)
  return table


class Attention(nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width, bias=False)
    self.q_bias = nn.Parameter(torch.zeros(width))
    self.v_bias = nn.Parameter(torch.zeros(width))
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    batch, tokens, width = x.shape
    bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
    qkv = F.linear(x, self.qkv.weight, bias).view(batch, tokens, 3, self.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    weight = torch.softmax(q * (width // self.heads) ** -0.5 @ k.transpose(-1, -2), dim=-1)
    return self.proj((weight @ v).transpose(1, 2).reshape(batch, tokens, width))


class MLP(nn.Module):
  def __init__(self, width, hidden):
    super().__init__()
    self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

  def forward(self, x):
    return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
  def __init__(self, width, heads, hidden):
    super().__init__()
    self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
    self.attn, self.mlp = Attention(width, heads), MLP(width, hidden)

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
  def __init__(self, width, patch):
    super().__init__()
    self.proj = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch))

  def forward(self, x):  # [B 3 T h w] -> [B T·N E]
    return self.proj(x).flatten(2).transpose(1, 2)


class UMT(nn.Module):
  """Standardised pixels [B T 3 S S] -> [B T·N E]; `stages` also returns what every stage made."""

  def __init__(self, size, width, depth, heads, mlp, patch=16, trained=(4, 14)):
    super().__init__()
    self.side, self.width, self.trained = size // patch, width, trained
    self.patch_embed = PatchEmbed(width, patch)
    self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(depth))
    self.vision_layernorm = nn.LayerNorm(width, eps=1e-12)

  def stages(self, pixels):
    x = self.patch_embed(pixels.transpose(1, 2))
    out = [x + positions(pixels.shape[1], self.side, self.width, self.trained)]
    for block in self.blocks:
      out.append(block(out[-1]))
    return [*out, self.vision_layernorm(out[-1])]

  def forward(self, pixels):
    return self.stages(pixels)[-1]


def random_(model: nn.Module, seed: int = 0, std: float = 0.1) -> nn.Module:
  """Fills every parameter at random, norms about 1, so that a wrong one shows."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      scale = name.endswith("weight") and weight.ndim == 1
      weight.copy_(torch.randn(weight.shape, generator=generator) * std + (1.0 if scale else 0.0))
  return model.eval()


def standardised(frames: np.ndarray) -> torch.Tensor:
  """uint8 [B T S S 3] -> float32 [B T 3 S S] with ImageNet's statistics."""
  mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
  x = (frames.astype(np.float32) * np.float32(1 / 255) - mean) / std
  return torch.tensor(x).permute(0, 1, 4, 2, 3)


def parameters(state: dict, heads: int) -> dict:
  """A twin's state dict (UMT or InternVideo2) -> the parameter tree of the encoder in FiLax."""
  state = {name: weight.numpy() for name, weight in state.items()}
  depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

  def stack(suffix):
    return np.stack([state[f"blocks.{i}.{suffix}"] for i in range(depth)])

  def kernel(suffix):
    return stack(f"{suffix}.weight").swapaxes(1, 2)

  width = state["patch_embed.proj.bias"].shape[0]

  def split(bias):
    return bias.reshape(depth, heads, -1)

  fused = kernel("attn.qkv").reshape(depth, width, 3, heads, -1)
  attn = {f"{name}_proj": dict(kernel=fused[:, :, n]) for n, name in enumerate("qkv")}
  for name in "qv":
    if f"blocks.0.attn.{name}_bias" in state:
      attn[f"{name}_proj"]["bias"] = split(stack(f"attn.{name}_bias"))
  for name in ("q_norm", "k_norm"):
    if f"blocks.0.attn.{name}.weight" in state:
      attn[name] = dict(scale=stack(f"attn.{name}.weight"))
  attn["proj"] = dict(
    kernel=kernel("attn.proj").reshape(depth, heads, -1, width), bias=stack("attn.proj.bias")
  )
  layers = dict(
    attn=attn,
    mlp={
      name: dict(kernel=kernel(f"mlp.{name}"), bias=stack(f"mlp.{name}.bias"))
      for name in ("fc1", "fc2")
    },
  )
  for name in ("norm1", "norm2", "ls1", "ls2"):
    if f"blocks.0.{name}.weight" in state:
      layers[name] = dict(scale=stack(f"{name}.weight"))
    if f"blocks.0.{name}.bias" in state:
      layers[name]["bias"] = stack(f"{name}.bias")

  tree = dict(
    layers=layers,
    patch_embed=dict(
      patch_embedding=dict(
        kernel=state["patch_embed.proj.weight"][:, :, 0].transpose(2, 3, 1, 0),
        bias=state["patch_embed.proj.bias"],
      )
    ),
  )
  for name in ("cls_token", "pos_embed", "img_pos_embed"):
    if name in state:
      tree[name] = state[name].reshape(-1, width)
  if "vision_layernorm.weight" in state:
    tree["vision_layernorm"] = dict(
      scale=state["vision_layernorm.weight"], bias=state["vision_layernorm.bias"]
    )
  return tree
