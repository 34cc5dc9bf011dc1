# SPDX-License-Identifier: Apache-2.0
"""A Qwen2 decoder with visual dropout, one sample at a time, in NumPy and float64.

Written from the description of the released model: after a stage's layer, visual tokens are dropped
by an integer linspace or by the attention of the last query, computed with the next layer's norm,
q and k; positions are counted anew.
"""

import math

import numpy as np
import pytest


def rms(x, scale, eps=1e-6):
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale


def rotate(x, positions, theta):
  half = x.shape[-1] // 2
  angle = positions[:, None, None] * theta ** (-np.arange(half) / half)
  a, b = x[..., :half], x[..., half:]
  return np.concatenate(
    [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1
  )


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


class Decoder:
  """The llm of a VideoLM, from its parameters and its model's sizes."""

  def __init__(self, params, model):
    def to64(tree):
      return {
        k: to64(v) if hasattr(v, "items") else np.float64(np.asarray(v)) for k, v in tree.items()
      }

    self.params, self.model = to64(params), model

  def layer(self, n):
    def pick(tree):
      return {k: pick(v) if isinstance(v, dict) else v[n] for k, v in tree.items()}

    return pick(self.params["layers"])

  def attention(self, p, x, positions):
    """(weights [H L L], v [L H d]) of a layer whose input is normalised."""
    h = rms(x, p["input_layernorm"]["scale"], self.model.eps)

    def make(name):
      return (
        np.einsum("ld,dhe->lhe", h, p["self_attn"][name]["kernel"]) + p["self_attn"][name]["bias"]
      )

    q, k, v = make("q_proj"), make("k_proj"), make("v_proj")
    q, k = (rotate(a, positions, self.model.theta) for a in (q, k))
    share = self.model.heads // self.model.kv_heads
    k, v = np.repeat(k, share, 1), np.repeat(v, share, 1)
    scores = np.einsum("lhd,mhd->hlm", q, k) / math.sqrt(q.shape[-1])
    scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
    return softmax(scores), v

  def block(self, n, x, positions):
    p = self.layer(n)
    weights, v = self.attention(p, x, positions)
    x = x + np.einsum("hlm,mhd,hde->le", weights, v, p["self_attn"]["o_proj"]["kernel"])
    h = rms(x, p["post_attention_layernorm"]["scale"], self.model.eps)
    gate = h @ p["mlp"]["gate_proj"]["kernel"]
    up = h @ p["mlp"]["up_proj"]["kernel"]
    return x + (gate / (1 + np.exp(-gate)) * up) @ p["mlp"]["down_proj"]["kernel"]

  def run(self, x, visual, queries, stages, renumber=True):
    """x [L D] embedded, visual [L], query places -> (normalised hidden states of what is left,
    and which places those are, after every stage)."""
    x, positions = np.float64(x), np.arange(len(x))
    place, count, history = np.arange(len(x)), int(visual.sum()), []
    cuts = {stage.layer: stage for stage in stages}
    for n in range(self.model.depth):
      if n in cuts:
        kept = self.kept(n, cuts[n], x, visual, place, positions, queries, count)
        x, visual, place, positions = x[kept], visual[kept], place[kept], positions[kept]
        positions = np.arange(len(x)) if renumber else positions
        history.append(place)
      x = self.block(n, x, positions)
    return rms(x, self.params["norm"]["scale"], self.model.eps), history

  def kept(self, n, stage, x, visual, place, positions, queries, count):
    seen, current = np.flatnonzero(visual), int(visual.sum())
    keep = min(current, int(count * stage.ratio))
    if stage.kind == "uniform":
      return np.sort(np.concatenate([np.flatnonzero(~visual), seen[linspace(current, keep)]]))
    asking = [np.flatnonzero(place <= q)[-1] for q in queries]
    if not asking:
      return np.arange(len(x))
    weights, _ = self.attention(self.layer(n), x, positions)
    scores = weights[:, asking].mean((0, 1))
    best = sorted(seen, key=lambda i: (-scores[i], i))[:keep]
    return np.sort(np.concatenate([np.flatnonzero(~visual), best]).astype(int))


def linspace(count, keep):
  """torch.linspace(0, count - 1, keep).long(), in its own arithmetic."""
  torch = pytest.importorskip("torch")
  return torch.linspace(0, count - 1, keep, dtype=torch.int64).numpy()
