# SPDX-License-Identifier: Apache-2.0
"""The exported model, trained by PyTorch.

Encoder, projector and language model are modules of transformers or of the exported folder. The
exported folder also holds the code that fuses frames or merges tokens. This file adds the
optimizer, gradient clipping, the schedule and the loss. They follow the settings of the config, but
use only PyTorch and transformers.
"""

from collections.abc import Mapping, Sequence
import importlib
import math
import pathlib
import re
import sys
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
import transformers

transformers.utils.logging.disable_progress_bar()

Batch = Mapping[str, np.ndarray]  # A packed batch, as described by filax.spec.BATCH.

DECAYED = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.Embedding)  # Weight decay is for their weights.


class MergingRound(NamedTuple):
  """The pairs of tokens that one round of merging chooses.

  There are b clips. The tokens at even places are merged into tokens at odd places; a clip has `a`
  of each.
  """

  count: Any  # Number of pairs to merge.
  partner: Any  # int [b a]: for every even token, the number of its odd token.
  order: Any  # int [b a]: the numbers of the even tokens, the most similar pair first.


class FilaTwin(nn.Module):
  """An exported FiLA-Video of format hf-remote."""

  ROLES = (
    ("model.model.vision_tower.", "encoder"),
    ("model.model.scene_merger.", "merger"),
    ("model.model.multi_modal_projector.", "projector"),
    ("model.model.image_newline", "projector"),
    ("", "llm"),
  )

  def __init__(self, folder: pathlib.Path):
    super().__init__()
    module = import_exported(folder, "modeling_fila")
    self.model = module.FilaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    self.decoder = self.model.model.language_model
    self.head = self.model.lm_head

  def visual_table(self, frames: torch.Tensor) -> torch.Tensor:
    """Visual tokens of rows of frames, with the newline at the end.

    uint8 [R T h w 3] -> [R M D].
    """
    values = frames.flatten(0, 1).float()
    pixels = (values / 255 - 0.5) / 0.5
    pixels = pixels.permute(0, 3, 1, 2)
    tokens = self.model.fused(pixels)
    rows = len(frames)
    newline = tokens[-1:].expand(rows, 1, -1)
    video = tokens[:-1].unflatten(0, (rows, -1))
    return torch.cat([video, newline], 1)


class FlashTwin(nn.Module):
  """An exported VideoChat-Flash of format videochat-flash."""

  ROLES = (("tower.", "encoder"), ("projector.", "projector"), ("", "llm"))

  def __init__(self, folder: pathlib.Path):
    super().__init__()
    module = import_exported(folder, "run_torch")
    self.llm, self.tower, self.projector, settings = module.load_model(folder)
    self._visual_tokens = module.visual_tokens
    self._pixels = module.flash_towers.standardised_pixels
    self._settings = settings["model"]
    self.decoder = self.llm.model
    self.head = self.llm.lm_head
    self.rounds: list[MergingRound] = []  # Pairs to merge; if empty, the model chooses them itself.

  def visual_table(self, frames: torch.Tensor) -> torch.Tensor:
    """Visual tokens of rows of frames.

    uint8 [R T h w 3] -> [R M D].
    """
    clip = self._settings["encoder"]["clip"]
    flat = frames.flatten(0, 1)
    pixels = self._pixels(flat.numpy())
    clips = pixels.unflatten(0, (-1, clip))
    features = self.tower(clips)
    groups = features.unflatten(1, (clip, -1))
    if self.rounds:
      merged = merge_pairs(groups.flatten(1, 2), self.rounds)
      tokens = self.projector(merged)
    else:
      tokens = self._visual_tokens(self.projector, self._settings, groups)
    return tokens.reshape(len(frames), -1, tokens.shape[-1])


def merge_pairs(x: torch.Tensor, rounds: Sequence[MergingRound]) -> torch.Tensor:
  """Merges the pairs of tokens of several rounds.

  [b p E] -> [b n E]. A merged token is the mean of the input tokens that it represents; `size`
  counts them.
  """
  size = torch.ones_like(x[..., :1])
  for merging in rounds:
    x, size = merge_pairs_once(x, size, merging)
  return x


def merge_pairs_once(x: torch.Tensor, size: torch.Tensor, merging: MergingRound):
  """Merges the pairs of one round; returns the tokens and their sizes.

  The result has the remaining even tokens first, then the odd tokens.
  """
  order = torch.tensor(merging.order, dtype=torch.int64)[..., None]
  partner = torch.tensor(merging.partner, dtype=torch.int64)[..., None]
  count = int(merging.count)
  merged = order[:, :count]
  remaining = order[:, count:]
  target = partner.gather(1, merged)
  even = x[:, ::2]
  even_size = size[:, ::2]
  odd = x[:, 1::2]
  odd_size = size[:, 1::2]
  moved = torch.take_along_dim(even * even_size, merged, 1)
  moved_size = torch.take_along_dim(even_size, merged, 1)
  odd_sum = odd * odd_size
  odd_sum = odd_sum.scatter_add(1, target.expand_as(moved), moved)
  odd_size = odd_size.scatter_add(1, target, moved_size)
  remaining_even = torch.take_along_dim(even, remaining, 1)
  remaining_size = torch.take_along_dim(even_size, remaining, 1)
  x = torch.cat([remaining_even, odd_sum / odd_size], 1)
  size = torch.cat([remaining_size, odd_size], 1)
  return x, size


TWINS = {"fila": FilaTwin, "flash": FlashTwin}


def import_exported(folder: pathlib.Path, name: str) -> ModuleType:
  """Imports a module from an exported folder."""
  sys.path.insert(0, str(folder))
  try:
    for path in folder.glob("*.py"):
      sys.modules.pop(path.stem, None)  # Another export may have a module of this name.
    return importlib.import_module(name)
  finally:
    sys.path.remove(str(folder))


class TwinRun:
  """A training run of PyTorch."""

  def __init__(self, twin: Any, optim: Mapping[str, Any], steps: int):
    self.twin = twin.train()
    self._clip = optim["clip"] or math.inf
    groups = parameter_groups(twin, optim)
    betas = (optim["b1"], optim["b2"])
    self._optimizer = torch.optim.AdamW(groups, betas=betas, eps=optim["eps"])
    warmup = math.ceil(steps * optim["warmup"])
    self._schedule = transformers.get_cosine_with_min_lr_schedule_with_warmup(
      self._optimizer,
      num_warmup_steps=warmup,
      num_training_steps=steps,
      min_lr_rate=optim["final"],
    )

  def step(self, batch: Batch) -> dict[str, float]:
    """Makes a step; returns loss and gradient norm from before the update."""
    loss = token_loss(self.twin, batch)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(self.twin.parameters(), self._clip)
    self._optimizer.step()
    self._schedule.step()
    self._optimizer.zero_grad(set_to_none=True)
    return dict(loss=loss.item(), grad_norm=norm.item())


def parameter_groups(twin: Any, optim: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The parameter groups for torch's AdamW, one per parameter.

  The learning rate depends on the role (encoder, projector, ...) of a parameter. Only kernels and
  embedding tables have weight decay.
  """
  groups = []
  for name, parameter in twin.named_parameters():
    role = role_of(name, twin.ROLES)
    rate = rate_of(role, optim["rates"])
    decay = decay_of(twin, name, optim["decay"])
    groups.append(dict(params=[parameter], lr=rate, weight_decay=decay))
  return groups


def role_of(name: str, roles: Any) -> str:
  """The role that a parameter belongs to; roles: rows of (prefix, role)."""
  for prefix, role in roles:
    if name.startswith(prefix):
      return role
  raise ValueError(f"{name} belongs to no role.")


def rate_of(role: str, rates: Any) -> float:
  """The peak learning rate of the parameters of a role."""
  for regex, rate in rates:
    if re.search(regex, f"{role}/"):
      return rate
  raise ValueError(f"config.optim.rates has no rate for {role}.")


def decay_of(twin: nn.Module, name: str, decays: Any) -> float:
  """The weight decay of a parameter; 0 except for kernels and tables."""
  owner, _, kind = name.rpartition(".")
  module = twin.get_submodule(owner)
  if kind != "weight" or not isinstance(module, DECAYED):
    return 0.0
  return max(decay for _, decay in decays)


def token_loss(twin: Any, batch: Batch) -> torch.Tensor:
  """The mean cross entropy of all supervised tokens of packed rows."""
  mask = packed_mask(torch_array(batch, "segment_ids"))
  output = twin.decoder(
    inputs_embeds=spliced_inputs(twin, batch),
    attention_mask=mask,
    position_ids=torch_array(batch, "positions"),
    use_cache=False,
  )
  supervised = torch_array(batch, "loss_mask") > 0
  hidden = output.last_hidden_state[supervised]
  targets = torch_array(batch, "targets")[supervised]
  return F.cross_entropy(twin.head(hidden), targets)


def spliced_inputs(twin: Any, batch: Batch) -> torch.Tensor:
  """Embedded text with the visual tokens in their places: [R L D]."""
  index = torch_array(batch, "visual_index")[..., None]
  table = twin.visual_table(torch_array(batch, "frames"))
  width = table.shape[-1]
  place = index.clamp(min=0).expand(-1, -1, width)
  visual = table.gather(1, place)
  text = twin.decoder.embed_tokens(torch_array(batch, "tokens"))
  return torch.where(index >= 0, visual, text)


def torch_array(batch: Batch, key: str) -> torch.Tensor:
  """An array of a batch as a tensor.

  int32 becomes int64, because PyTorch expects such indices.
  """
  values = np.array(batch[key])
  if values.dtype == np.int32:
    values = values.astype(np.int64)
  return torch.from_numpy(values)


def packed_mask(segments: torch.Tensor) -> torch.Tensor:
  """The mask of causal attention within segments, bool [R 1 L L].

  A token sees itself and earlier tokens of its segment. Padding counts as a segment.
  """
  length = segments.shape[1]
  same = segments[:, :, None] == segments[:, None, :]
  causal = torch.ones(length, length, dtype=torch.bool).tril()
  return (same & causal)[:, None]
