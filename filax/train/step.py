# SPDX-License-Identifier: Apache-2.0
"""One optimizer step, as a pure function of state and batch.

Everything is summed over positions, rows, micro-batches and devices, with its count beside it, and
divided once: the mean does not depend on how a batch was cut up.
"""

from collections.abc import Callable, Mapping, Sequence
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
import optax

from filax.ops import losses
from filax.parallel import zigzag
from filax.train.optim import Optimizer, merge
from filax.train.state import TrainState

REDUCTIONS = ("sample_mean", "token_mean")


def make_loss(model, reduction: str = "sample_mean", chunk: int = 1024) -> Callable:
  """loss(params, batch, rng) -> (sum, sums): `sum` / sums["count"] is the loss of the batch.

  `sums` counts what else the rows hold: supervised and right tokens, tokens and places, frames,
  images, bad samples, and the work of the llm (`work`). All float32 scalars. An `rngs` entry named
  dropout is passed for parts that want one. Where the model drops visual tokens, targets and masks
  are those of the shortened rows. Raises ValueError for an unknown reduction.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(
      f"config.optim.reduction is {reduction!r}. Set it to one of {', '.join(REDUCTIONS)}."
    )

  def loss(params, batch, rng):
    hidden, left = hidden_states(model, params, batch, rng)
    head = model.apply({"params": params}, method="head")
    nll, hit = losses.cross_entropy(hidden, head, left["targets"], chunk=chunk, vocab=model.vocab)
    mask = left["loss_mask"]
    if reduction == "token_mean":
      total, count = losses.token_mean(nll, mask)
    else:
      segments = batch["keep"].shape[-1]
      total, count = losses.sample_mean(nll, mask, left["segment_ids"], segments)
    return total, {
      "count": count,
      "hits": (hit * mask).sum(),
      **contents({**batch, "loss_mask": mask}),
      **work(batch, shares(model)),
    }

  return loss


def hidden_states(model, params, batch, rng) -> tuple[jax.Array, Mapping[str, jax.Array]]:
  """Hidden states of a batch, and their targets, loss_mask and segment_ids: those of the batch, or
  of what visual dropout leaves of its rows."""
  apply = lambda batch, **method: model.apply(
    {"params": params}, batch, rngs={"dropout": rng}, **method
  )
  if getattr(model, "stages", ()):
    return apply(batch, method="shortened")
  laid = zigzag.lay(batch)
  return apply(laid), laid


def contents(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """What a batch of packed rows holds, as float32 sums over its rows."""
  count = lambda x: (x > 0).sum().astype(jnp.float32)
  return {
    "supervised": count(batch["loss_mask"]),
    "tokens": count(batch["segment_ids"]),
    "places": jnp.float32(batch["segment_ids"].size),
    "frames": count(batch["frame_segment_ids"]),
    "images": count(batch["image_segment_ids"]),
    "num_bad": batch["num_bad"].sum().astype(jnp.float32),
  }


def shares(model) -> tuple[float, ...]:
  """The share of the llm's layers before, between and after the stages of visual dropout."""
  if not (stages := getattr(model, "stages", ())):
    return (1.0,)
  cuts = (0, *(stage.layer for stage in stages), model.llm.depth)
  return tuple((b - a) / model.llm.depth for a, b in itertools.pairwise(cuts))


def work(batch: Mapping[str, jax.Array], shares: Sequence[float] = (1.0,)) -> dict[str, jax.Array]:
  """What the llm computes of a batch in natural order, as float32 sums over its rows.

  `passed` tokens pass a layer, of which `pairs` see each other: means over the layers, of which a
  share sees what each stage of visual dropout has left. `left` tokens meet the head.
  """
  own = batch["segment_ids"][:, :, None] == jnp.arange(1, batch["keep"].shape[-1] + 1)
  whole = own.sum(1)  # [R S]
  text = whole - (own & (batch["visual_index"] >= 0)[:, :, None]).sum(1)
  lengths = [whole, *(text + batch["keep"][:, n] for n in range(len(shares) - 1))]
  lengths = [length.astype(jnp.float32) for length in lengths]
  mean = lambda counts: sum(share * x.sum() for share, x in zip(shares, counts, strict=True))
  return {
    "passed": mean(lengths),
    "pairs": mean([x * (x + 1) / 2 for x in lengths]),
    "left": lengths[-1].sum(),
  }


def make_train_step(loss: Callable, optimizer: Optimizer, accumulate: int = 1) -> Callable:
  """Returns step(state, batch) -> (state, metrics). Jit it with donate_argnums=0.

  loss(params, batch, rng) -> (sum, sums with "count"), as `make_loss` gives. Only the trainable
  subtree is differentiated. `accumulate` micro-batches of R / accumulate rows are run one after
  the other. Metrics are float32 device scalars: loss, grad_norm (before clipping, of what is
  trained), accuracy, padding, finite, lr/<group>, and the sums of `contents` and `work`.
  """

  def step(state: TrainState, batch) -> tuple[TrainState, dict]:
    rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    trainable, frozen = optimizer.split(state.params)
    joined = lambda part, micro, rng: loss(merge(part, frozen), micro, rng)
    total, sums, grads = _accumulate(joined, trainable, batch, rng, accumulate)
    count = jnp.maximum(sums.pop("count"), 1)
    grads = jax.tree.map(lambda g: g / count, grads)
    updates, opt = optimizer.transform.update(grads, state.opt, trainable)
    params = merge(optax.apply_updates(trainable, updates), frozen)
    metrics = _metrics(total / count, optax.tree.norm(grads), sums)
    metrics |= {f"lr/{k}": v for k, v in optimizer.learning_rates(state.step).items()}
    return state.replace(step=state.step + 1, params=params, opt=opt), metrics

  return step


def _accumulate(loss, params, batch, rng, parts: int):
  """The sum of loss, sums and gradients (float32) over `parts` micro-batches."""
  differentiate = jax.value_and_grad(loss, has_aux=True)

  def one(micro, rng):
    (total, sums), grads = differentiate(params, micro, rng)
    return total, sums, jax.tree.map(lambda g: g.astype(jnp.float32), grads)

  if parts == 1:
    return one(batch, rng)

  def add(total, item):
    micro, index = item
    return jax.tree.map(jnp.add, total, one(micro, jax.random.fold_in(rng, index))), None

  micros = jax.tree.map(lambda x: _deal(x, parts), batch)
  shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], micros), rng)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return jax.lax.scan(add, zeros, (micros, jnp.arange(parts)))[0]


def _deal(x, parts: int):
  """[R ...] -> [parts R/parts ...]. Every device keeps its own rows, so part i takes i::parts."""
  return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)


def _metrics(loss: jax.Array, norm: jax.Array, sums: PyTree) -> dict[str, jax.Array]:
  hits, places = sums.pop("hits"), sums.pop("places")
  return sums | {
    "loss": loss,
    "grad_norm": norm,
    "accuracy": hits / jnp.maximum(sums["supervised"], 1),
    "padding": (places - sums["tokens"]) / places,
    "finite": (jnp.isfinite(loss) & jnp.isfinite(norm)).astype(jnp.float32),
  }
