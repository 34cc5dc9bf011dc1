# SPDX-License-Identifier: Apache-2.0
"""The peers in PyTorch: transformers' models with random weights, and plain twins."""

from collections.abc import Callable
import time
from typing import Any

import torch
from torch import nn
import torch.nn.functional as F
import transformers


def qwen2(
  width: int,
  depth: int,
  heads: int,
  kv_heads: int,
  head_dim: int,
  mlp: int,
  vocab: int,
  tied: bool = False,
  dtype: torch.dtype = torch.float32,
  device: str = "cpu",
) -> nn.Module:
  """transformers' Qwen2ForCausalLM with PyTorch's own attention."""
  config = transformers.Qwen2Config(
    vocab_size=vocab,
    hidden_size=width,
    intermediate_size=mlp,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    head_dim=head_dim,
    max_position_embeddings=262_144,
    tie_word_embeddings=tied,
    attn_implementation="sdpa",
    bos_token_id=None,
    eos_token_id=None,
  )
  return random_model(lambda: transformers.Qwen2ForCausalLM(config), dtype, device)


def random_model(build: Callable[[], nn.Module], dtype: torch.dtype, device: str) -> nn.Module:
  """Builds a model on a device with its own random weights."""
  before = torch.get_default_dtype()
  torch.set_default_dtype(dtype)
  try:
    with torch.device(device):
      return build().eval()
  finally:
    torch.set_default_dtype(before)


def wait(device: str) -> None:
  """Waits for the device."""
  if device != "cpu":
    torch.cuda.synchronize()


def timed_torch(function: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
  """(seconds, result) of a function."""
  wait(device)
  start = time.perf_counter()
  result = function()
  wait(device)
  return time.perf_counter() - start, result


@torch.no_grad()
def filled_cache(model: nn.Module, batch: int, context: int) -> Any:
  """transformers' cache, filled with `context` random tokens a row."""
  config = model.config
  cache = transformers.DynamicCache(config=config)
  weight = next(model.parameters())
  head_dim = config.head_dim or config.hidden_size // config.num_attention_heads
  shape = (batch, config.num_key_value_heads, context, head_dim)
  for layer in range(config.num_hidden_layers):
    keys = torch.randn(shape, dtype=weight.dtype, device=weight.device)
    cache.update(keys, keys.clone(), layer)
  return cache


@torch.no_grad()
def decode_greedily(model: nn.Module, cache: Any, batch: int, tokens: int, device: str) -> float:
  """Seconds of decoding `tokens` greedy tokens a row, as transformers' generate does."""

  def decode_steps() -> None:
    token = torch.zeros((batch, 1), dtype=torch.long, device=device)
    for _ in range(tokens):
      output = model(input_ids=token, past_key_values=cache, use_cache=True)
      token = output.logits[:, -1:].argmax(-1)

  seconds, _ = timed_torch(decode_steps, device)
  return seconds


class TorchTraining:
  """A training step of a causal language model with AdamW."""

  def __init__(self, model: nn.Module, rows: int, length: int, compiled: bool, device: str = "cpu"):
    self._model = model.train()
    self._run = torch.compile(model) if compiled else model
    vocab = model.config.vocab_size
    self._tokens = torch.randint(0, vocab, (rows, length), device=device)
    self._device = device
    parameters = model.parameters()
    self._optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0, fused=True)

  def step(self) -> float:
    """Seconds of one step."""
    seconds, _ = timed_torch(self._step, self._device)
    return seconds

  def _step(self) -> None:
    output = self._run(input_ids=self._tokens, labels=self._tokens, use_cache=False)
    output.loss.backward()
    nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)


def siglip(
  depth: int, dtype: torch.dtype = torch.float32, device: str = "cpu", **sizes: int
) -> nn.Module:
  """transformers' SigLIP so400m tower of `depth` layers."""
  settings = dict(
    hidden_size=1152,
    intermediate_size=4304,
    num_attention_heads=16,
    image_size=384,
    patch_size=14,
  )
  config = transformers.SiglipVisionConfig(
    num_hidden_layers=depth,
    vision_use_head=False,
    attn_implementation="sdpa",
    **(settings | sizes),
  )
  return random_model(lambda: transformers.SiglipVisionModel(config), dtype, device)


class ClipAttention(nn.Module):
  """Full attention over the patches of a clip."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width)
    self.proj = nn.Linear(width, width)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    batch, tokens, width = x.shape
    qkv = self.qkv(x).view(batch, tokens, 3, self.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    o = F.scaled_dot_product_attention(q, k, v)
    return self.proj(o.transpose(1, 2).reshape(batch, tokens, width))


class ClipBlock(nn.Module):
  """A pre-norm layer of the clip encoder."""

  def __init__(self, width: int, heads: int, mlp: int):
    super().__init__()
    self.norm1 = nn.LayerNorm(width, eps=1e-6)
    self.attn = ClipAttention(width, heads)
    self.norm2 = nn.LayerNorm(width, eps=1e-6)
    self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class ClipEncoder(nn.Module):
  """A space-time encoder of UMT-L's sizes.

  Standardised pixels [B 3 T h w] -> features [B T·N E]."""

  def __init__(
    self,
    size: int,
    depth: int,
    frames: int = 4,
    width: int = 1024,
    heads: int = 16,
    mlp: int = 4096,
    patch: int = 16,
  ):
    super().__init__()
    self.patches = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch))
    self.positions = nn.Parameter(torch.zeros(frames * (size // patch) ** 2, width))
    self.blocks = nn.ModuleList(ClipBlock(width, heads, mlp) for _ in range(depth))
    self.norm = nn.LayerNorm(width, eps=1e-12)

  def forward(self, pixels: torch.Tensor) -> torch.Tensor:
    x = self.patches(pixels).flatten(2).transpose(1, 2) + self.positions
    for block in self.blocks:
      x = block(x)
    return self.norm(x)


@torch.no_grad()
def merge_tokens(x: torch.Tensor, target: int, heads: int = 16) -> torch.Tensor:
  """Token merging of clips, from the paper's description.

  x [b p E] -> [b target E]."""
  size = torch.ones(x.shape[:2], dtype=torch.float32, device=x.device)[..., None]
  while x.shape[1] > target:
    count = min(x.shape[1] // 2, x.shape[1] - target)
    x, size = _merge_pairs(x, size, count, heads)
  return x


def _merge_pairs(x, size, count: int, heads: int):
  """Averages the `count` most similar even tokens into their odd partners."""
  batch, tokens, _ = x.shape
  metric = x.reshape(batch, tokens, heads, -1).mean(2)
  metric = metric / metric.norm(dim=-1, keepdim=True)
  similarity, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(-1)
  order = similarity.argsort(dim=-1, descending=True)
  partner = partner.gather(1, order[:, :count])[..., None]

  def joined(values):
    even = values[:, ::2]
    odd = values[:, 1::2]
    channels = values.shape[-1]
    rest = even.gather(1, order[:, count:, None].expand(-1, -1, channels))
    source = even.gather(1, order[:, :count, None].expand(-1, -1, channels))
    odd = odd.scatter_add(1, partner.expand(-1, -1, channels), source)
    return torch.cat([rest, odd], dim=1)

  total = joined(size)
  return (joined(x * size.to(x.dtype)) / total).to(x.dtype), total


@torch.no_grad()
def cluster_frames(x: torch.Tensor, clusters: int, steps: int) -> torch.Tensor:
  """Lloyd's K-Means over frames [T D] -> centres [C D].

  The seeds are evenly spaced."""
  places = torch.linspace(0, len(x) - 1, clusters, device=x.device).long()
  centers = x[places]
  for _ in range(steps):
    distance = (centers * centers).sum(-1) - 2 * x @ centers.T
    owner = distance.argmin(-1)
    total = torch.zeros_like(centers).index_add_(0, owner, x)
    count = torch.bincount(owner, minlength=clusters).clamp(min=1)
    centers = total / count[:, None]
  return centers
