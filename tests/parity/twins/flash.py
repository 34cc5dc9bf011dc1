# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash in torch, from frames to logits, one sample at a time, for parity tests only.

UMT (twins.umt), token merging by scatter, the connector, and the Qwen2 of transformers, whose
layers are run one by one, so that visual tokens can be dropped between them. Written from the
description of the released model.
"""

import torch
from torch import nn
import torch.nn.functional as F
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb
from twins import umt


def merged(x: torch.Tensor, target: int, heads: int) -> torch.Tensor:
  """[clips tokens width] -> [clips target width]: each even token joins its most similar odd one,
  the best pairs first, as means weighted by how many tokens a token stands for."""
  size = torch.ones_like(x[..., :1])
  while (spare := x.shape[1] - target) > 0:
    count = min(x.shape[1] // 2, spare)
    metric = F.normalize(x.detach().unflatten(-1, (heads, -1)).mean(2), dim=-1)
    best, partner = (metric[:, ::2] @ metric[:, 1::2].mT).max(-1)
    order = best.argsort(dim=-1, descending=True, stable=True)

    def pick(a, at):
      return a.gather(1, at[..., None].expand(-1, -1, a.shape[-1]))

    joins, stays = order[:, :count], order[:, count:]
    into = partner.gather(1, joins)[..., None]
    total, weight = x[:, 1::2] * size[:, 1::2], size[:, 1::2]
    even, even_size = x[:, ::2], size[:, ::2]
    total = total.scatter_add(
      1, into.expand(-1, -1, x.shape[-1]), pick(even, joins) * pick(even_size, joins)
    )
    weight = weight.scatter_add(1, into, pick(even_size, joins))
    x = torch.cat([pick(even, stays), total / weight], dim=1)
    size = torch.cat([pick(even_size, stays), weight], dim=1)
  return x


class Flash(nn.Module):
  """`tokens` visual tokens a frame; `stages` are (layer, kind, ratio)."""

  def __init__(self, tower, projector, llm, heads: int, tokens: int, stages=(), clip: int = 4):
    super().__init__()
    self.tower, self.projector, self.llm = tower, projector, llm
    self.heads, self.tokens, self.stages, self.clip = heads, tokens, stages, clip

  def visual(self, frames) -> torch.Tensor:
    """uint8 [T S S 3] -> [T·tokens D]: clips one after the other, nothing between them."""
    clips = frames.reshape(-1, self.clip, *frames.shape[1:])
    x = self.tower(umt.standardised(clips))
    return self.projector(merged(x, self.clip * self.tokens, self.heads)).flatten(0, 1)

  @torch.no_grad()
  def forward(self, frames, ids, first: int, queries) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(logits [places V], the places that are left after every stage) of `ids` with the visual
    tokens from place `first` on; `queries` are the places that select."""
    visual = self.visual(frames)
    x = self.llm.get_input_embeddings()(torch.as_tensor(ids))
    x = torch.cat([x[:first], visual, x[first + len(visual) :]])
    places, history = torch.arange(len(x)), []
    shown = (places >= first) & (places < first + len(visual))
    for n, layer in enumerate(self.llm.model.layers):
      for cut, kind, ratio in self.stages:
        if cut == n:
          kept = self._kept(layer, x, places, shown, kind, int(len(visual) * ratio), queries)
          x, places, shown = x[kept], places[kept], shown[kept]
          history.append(places)
      x = self._through(layer, x)
    return self.llm.lm_head(self.llm.model.norm(x)), history

  def _turn(self, x):
    return self.llm.model.rotary_emb(x[None], torch.arange(len(x))[None])

  def _through(self, layer, x):
    """One decoder layer over places counted from 0."""
    mask = torch.full((len(x), len(x)), float("-inf")).triu(1)[None, None]
    out = layer(x[None], attention_mask=mask, position_embeddings=self._turn(x))
    return (out[0] if isinstance(out, tuple) else out)[0]

  def _kept(self, layer, x, places, shown, kind, keep, queries):
    """Indices that stay: all text, and `keep` visual tokens in their order."""
    seen = shown.nonzero()[:, 0]
    if kind == "uniform":
      chosen = seen[torch.linspace(0, len(seen) - 1, keep, dtype=torch.long)]
    else:
      asking = torch.stack([(places == q).nonzero()[0, 0] for q in queries])
      chosen = seen[self._attention(layer, x)[asking].mean(0)[seen].topk(keep).indices]
    return torch.cat([(~shown).nonzero()[:, 0], chosen]).sort().values

  def _attention(self, layer, x):
    """[places places]: what each place attends to in `layer`, mean over heads."""
    own, h = layer.self_attn, layer.input_layernorm(x)[None]

    def split(a):
      return a.unflatten(-1, (-1, own.head_dim)).transpose(1, 2)

    q, k = apply_rotary_pos_emb(split(own.q_proj(h)), split(own.k_proj(h)), *self._turn(x))
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.mT * own.head_dim**-0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1)[0].mean(0)
