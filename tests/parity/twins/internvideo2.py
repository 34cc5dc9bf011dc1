# SPDX-License-Identifier: Apache-2.0
"""A torch twin of the released InternVideo2 tower, under its parameter names, for parity tests."""

import torch
from torch import nn
from twins.umt import MLP, PatchEmbed


class RMSNorm(nn.Module):
  def __init__(self, width, eps=1e-6):
    super().__init__()
    self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

  def forward(self, x):
    wide = x.float()
    wide = wide / torch.sqrt(wide.square().mean(-1, keepdim=True) + self.eps)
    return self.weight * wide.to(x.dtype)


class LayerScale(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(width))

  def forward(self, x):
    return (x.float() * self.weight.float()).to(x.dtype)


class Attention(nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width, bias=False)
    self.q_norm, self.k_norm = RMSNorm(width), RMSNorm(width)
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    batch, tokens, width = x.shape
    q, k, v = self.qkv(x).chunk(3, dim=-1)

    def heads(a):
      return a.view(batch, tokens, self.heads, -1).transpose(1, 2)

    q, k, v = heads(self.q_norm(q)), heads(self.k_norm(k)), heads(v)
    weight = torch.softmax(q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5, dim=-1)
    return self.proj((weight @ v).transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
  def __init__(self, width, heads, hidden):
    super().__init__()
    self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
    self.ls1, self.ls2 = LayerScale(width), LayerScale(width)
    self.attn, self.mlp = Attention(width, heads), MLP(width, hidden)

  def forward(self, x):
    x = x + self.ls1(self.attn(self.norm1(x)))
    return x + self.ls2(self.mlp(self.norm2(x)))


class InternVideo2(nn.Module):
  """Standardised pixels [B T 3 S S] -> [B T·N E]; `stages` also returns what every stage made."""

  def __init__(self, size, width, depth, heads, mlp, patch=14, clip=4):
    super().__init__()
    patches = (size // patch) ** 2
    self.patch_embed = PatchEmbed(width, patch)
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = nn.Parameter(torch.zeros(1, 1 + clip * patches, width))
    self.img_pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
    self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(depth))

  def stages(self, pixels):
    x = self.patch_embed(pixels.transpose(1, 2))
    table = self.img_pos_embed if pixels.shape[1] == 1 else self.pos_embed
    out = [torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + table]
    for block in self.blocks:
      out.append(block(out[-1]))
    return [*out, out[-1][:, 1:]]

  def forward(self, pixels):
    return self.stages(pixels)[-1]
