# SPDX-License-Identifier: Apache-2.0
"""One optimizer step, as a pure function of state and batch.

Losses and counts are summed over positions, rows, micro-batches and devices, and divided once at
the end. So the mean does not depend on how a batch was divided.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
import optax

from filax.models import lora
from filax.ops import losses
from filax.parallel import zigzag
from filax.train import averages
from filax.train.optim import Optimizer, merge_params
from filax.train.state import TrainState

REDUCTIONS = ("sample_mean", "token_mean")


def make_loss(
  model, reduction: str = "sample_mean", chunk: int = 1024, dropout: float = 0.0
) -> Callable:
  """Returns loss(params, batch, rng) -> (sum, sums).

  `sum` / sums["count"] is the mean loss of the batch. `sums` also counts supervised and correct
  tokens, tokens and positions, frames, images, bad samples, and the work of the llm (`llm_work`).
  All of them are float32 scalars. If the model drops visual tokens, targets and masks are those of
  the shortened rows.

  chunk: the number of positions whose logits are computed at a time. dropout: the share of an
  adapter's inputs that is dropped. Raises ValueError for an unknown reduction.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(
      f"config.optim.reduction is {reduction!r}. Set it to one of {', '.join(REDUCTIONS)}."
    )

  def loss(params, batch, rng):
    with lora.input_dropout(dropout):
      nll, hit, rows = token_losses(model, params, batch, rng, chunk)
    mask = rows["loss_mask"]
    if reduction == "token_mean":
      total, count = losses.token_mean(nll, mask)
    else:
      segments = batch["keep"].shape[-1]
      total, count = losses.sample_mean(nll, mask, rows["segment_ids"], segments)
    hits = (hit * mask).sum()
    sums = {"count": count, "hits": hits}
    sums |= row_contents({**batch, "loss_mask": mask})
    sums |= llm_work(batch, layer_shares(model))
    return total, sums

  return loss


def make_sample_losses(model, chunk: int = 1024) -> Callable:
  """Returns losses(params, batch, rng) -> (sum of the loss, supervised tokens).

  Both are [R S]: the losses of `make_loss` by sample. Sample s of a row is its segment s + 1.
  """

  def losses_by_sample(params, batch, rng):
    nll, _, rows = token_losses(model, params, batch, rng, chunk)
    segments = batch["keep"].shape[-1]
    return losses.sample_sums(nll, rows["loss_mask"], rows["segment_ids"], segments)

  return losses_by_sample


def token_losses(
  model, params, batch, rng, chunk: int
) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
  """(loss, hits, rows) of a batch.

  loss and hits are [R L]. A hit is a target that is the likeliest token.
  """
  hidden, rows = hidden_states(model, params, batch, rng)
  head = model.apply({"params": params}, method="head")
  nll, hit = losses.cross_entropy(hidden, head, rows["targets"], chunk=chunk, vocab=model.vocab)
  return nll, hit, rows


def hidden_states(model, params, batch, rng) -> tuple[jax.Array, Mapping[str, jax.Array]]:
  """Hidden states [R L D] of a batch, and their rows.

  The rows are targets, loss_mask and segment_ids [R L]. They are those of the batch, or those of
  the rows that visual dropout has shortened.
  """
  variables = {"params": params}
  rngs = {"dropout": rng, lora.DROPOUT_STREAM: rng}
  if model.stages:
    return model.apply(variables, batch, rngs=rngs, method="shortened")
  rows = zigzag.reorder(batch)
  return model.apply(variables, rows, rngs=rngs), rows


def row_contents(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """Counts of a batch of packed rows, as float32 sums over rows."""
  return {
    "supervised": _count_positive(batch["loss_mask"]),
    "tokens": _count_positive(batch["segment_ids"]),
    "places": jnp.float32(batch["segment_ids"].size),
    "frames": _count_positive(batch["frame_segment_ids"]),
    "images": _count_positive(batch["image_segment_ids"]),
    "num_bad": batch["num_bad"].sum().astype(jnp.float32),
  }


def _count_positive(x: jax.Array) -> jax.Array:
  return (x > 0).sum().astype(jnp.float32)


def layer_shares(model) -> tuple[float, ...]:
  """The shares of the llm's layers between the stages of visual dropout.

  The first share is that of the layers before the first stage, the last one that of the layers
  after the last stage. Without stages, there is one share, 1.
  """
  stages = model.stages
  if not stages:
    return (1.0,)
  depth = model.llm.depth
  cuts = [0]
  for stage in stages:
    cuts.append(stage.layer)
  cuts.append(depth)
  return tuple((stop - start) / depth for start, stop in itertools.pairwise(cuts))


def llm_work(
  batch: Mapping[str, jax.Array], shares: Sequence[float] = (1.0,)
) -> dict[str, jax.Array]:
  """Work of the llm on a batch, as float32 sums over rows.

  The batch is in natural order. The result has

    passed  the number of tokens in a layer, as the mean over layers
    pairs   the number of pairs (query, visible key) in a layer, as the mean over layers
    left    the number of tokens at the head

  A layer sees the tokens that remain after the stages of visual dropout before it.
  """
  keep = batch["keep"]  # [R stages S]
  segment_ids = batch["segment_ids"][:, :, None]
  in_segment = segment_ids == jnp.arange(1, keep.shape[-1] + 1)  # [R L S]
  tokens = in_segment.sum(1)  # [R S]
  is_visual = (batch["visual_index"] >= 0)[:, :, None]
  visual = (in_segment & is_visual).sum(1)
  text = tokens - visual
  lengths = [tokens]
  for stage in range(len(shares) - 1):
    lengths.append(text + keep[:, stage])
  lengths = [length.astype(jnp.float32) for length in lengths]
  passed = _layer_mean(lengths, shares)
  pairs = [length * (length + 1) / 2 for length in lengths]
  return {
    "passed": passed,
    "pairs": _layer_mean(pairs, shares),
    "left": lengths[-1].sum(),
  }


def _layer_mean(counts: Sequence[jax.Array], shares: Sequence[float]) -> jax.Array:
  """The mean over the layers of a sum of counts.

  counts: one array for each share of the layers.
  """
  mean: Any = 0
  for share, count in zip(shares, counts, strict=True):
    mean = mean + share * count.sum()
  return mean


def make_train_step(loss: Callable, optimizer: Optimizer, accumulate: int = 1) -> Callable:
  """Returns train_step(state, batch) -> (state, metrics), to jit with donate_argnums=0.

  loss: loss(params, batch, rng) -> (sum, sums with "count"), as `make_loss` returns it.
  accumulate: the number of micro-batches, which are computed one after the other.

  Only the trainable subtree is differentiated. Metrics are float32 scalars on the device: loss,
  grad_norm (of the trained parameters, before clipping), accuracy, padding, finite, lr/<group>, and
  the sums of `row_contents` and `llm_work`.

  A step without a supervised token has no loss and no gradient: the metrics `loss` and `accuracy`
  are 0 and mean nothing. Its update is that of a gradient of 0, from moments and weight decay.
  """

  def train_step(state: TrainState, batch) -> tuple[TrainState, dict]:
    rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    trainable, frozen = optimizer.split_params(state.params)

    def loss_of_trainable(trainable, batch, rng):
      return loss(merge_params(trainable, frozen), batch, rng)

    total, sums, grads = _accumulate(loss_of_trainable, trainable, batch, rng, accumulate)
    count = jnp.maximum(sums.pop("count"), 1)
    grads = jax.tree.map(lambda g: g / count, grads)
    updates, opt = optimizer.transform.update(grads, state.opt, trainable)
    trainable = optax.apply_updates(trainable, updates)
    average = averages.next_average(optimizer, state.average, trainable, state.step + 1)
    params = merge_params(trainable, frozen)
    loss_mean = total / count
    norm = optax.tree.norm(grads)
    metrics = _metrics(loss_mean, norm, sums)
    for label, rate in optimizer.learning_rates(state.step).items():
      metrics[f"lr/{label}"] = rate
    state = dataclasses.replace(state, step=state.step + 1, params=params, opt=opt, average=average)
    return state, metrics

  return train_step


def _accumulate(loss, params, batch, rng, parts: int):
  """Loss, sums and gradients (float32), added up over `parts` micro-batches."""
  differentiate = jax.value_and_grad(loss, has_aux=True)

  def loss_and_grads(micro_batch, rng):
    (total, sums), grads = differentiate(params, micro_batch, rng)
    grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
    return total, sums, grads

  if parts == 1:
    return loss_and_grads(batch, rng)

  def add_micro_batch(total, item):
    micro_batch, index = item
    micro_rng = jax.random.fold_in(rng, index)
    results = loss_and_grads(micro_batch, micro_rng)
    total = jax.tree.map(jnp.add, total, results)
    return total, None

  micro_batches = jax.tree.map(lambda x: _micro_batches(x, parts), batch)
  first = jax.tree.map(lambda x: x[0], micro_batches)
  shapes = jax.eval_shape(loss_and_grads, first, rng)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  items = (micro_batches, jnp.arange(parts))
  total, _ = jax.lax.scan(add_micro_batch, zeros, items)
  return total


def _micro_batches(x, parts: int):
  """[R ...] -> [parts R/parts ...].

  Part i has the rows i::parts, so that every device keeps its own rows.
  """
  rows = x.shape[0] // parts
  x = x.reshape(rows, parts, *x.shape[1:])
  return jnp.moveaxis(x, 1, 0)


def _metrics(loss: jax.Array, norm: jax.Array, sums: PyTree) -> dict[str, jax.Array]:
  hits = sums.pop("hits")
  places = sums.pop("places")
  accuracy = hits / jnp.maximum(sums["supervised"], 1)
  padding = (places - sums["tokens"]) / places
  is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
  return sums | {
    "loss": loss,
    "grad_norm": norm,
    "accuracy": accuracy,
    "padding": padding,
    "finite": is_finite.astype(jnp.float32),
  }
