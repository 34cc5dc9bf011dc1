# SPDX-License-Identifier: Apache-2.0
"""Text from a VideoLM: prefill, then decode on the device with a static KV cache.

B rows, L prompt positions (a bucket), M visual tokens, N new tokens (a bucket), V vocabulary.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import time

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from filax.infer.compiled import Program, bucket, on_mesh
from filax.ops import sampling
from filax.spec import TEXT, dropout_stages

LENGTHS = (
  64,
  128,
  256,
  512,
  1024,
  1536,
  2048,
  3072,
  4096,
  6144,
  8192,
  12_288,
  16_384,
  24_576,
  32_768,
  49_152,
  65_536,
  98_304,
  131_072,
  196_608,
  262_144,
  524_288,
  1_048_576,
)
CHUNK = 4096  # Positions of a prompt that pass the layers at a time.
NEW = (16, 64, 256, 1024, 4096, 16_384)  # Buckets of new tokens: the cache holds L + N places.


@dataclasses.dataclass(frozen=True)
class Generated:
  """What `generate` made: token ids of every row without the stop id, and where time went."""

  tokens: list[list[int]]
  stopped: list[bool]  # A stop id ended the row; else max_new_tokens did.
  prefill_seconds: float
  decode_seconds: float


def generate(
  model,
  params: Mapping,
  prompts: Sequence[Sequence[int]],
  *,
  table: Float[Array, "B M D"] | None = None,
  visual_index: Sequence[Sequence[int]] | None = None,
  max_new_tokens: int = 64,
  temperature: float = 0.0,
  top_p: float = 1.0,
  top_k: int = 0,
  stop: Sequence[int] = (),
  seed: int = 0,
  vocab: int | None = None,
  lengths: Sequence[int] = LENGTHS,
) -> Generated:
  """Continues B prompts of any lengths (token ids); they are padded to a bucket of `lengths`.

  `table` [B M D] and `visual_index` (one list a prompt) splice in pictures. temperature 0 is
  greedy. Ids from `vocab` on (default: the model's vocabulary) are never produced. The same seed
  gives the same text. Raises ValueError if the context or a setting cannot be.
  """
  check_settings(max_new_tokens, temperature, top_p, top_k)
  check_prompts(model, prompts, max_new_tokens)
  counts = np.array([len(p) for p in prompts], np.int32)
  length = bucket(int(counts.max()), tuple(lengths), "config.infer.lengths")
  room = bucket(max_new_tokens, NEW, "filax.infer.generate.NEW")
  tokens = pad(prompts, length, 0)
  index = None if table is None else pad(visual_index, length, TEXT)

  settings = dict(
    temperature=np.float32(temperature),
    top_p=np.float32(top_p),
    top_k=np.int32(top_k),
    vocab=np.int32(model.vocab if vocab is None else min(vocab, model.vocab)),
  )

  core, start = language(model), time.perf_counter()
  keep, left = dropped(core, counts, index, length, tuple(lengths))
  shape = " -> ".join(map(str, (length, *left)))
  with on_mesh(model):
    logits, cache = PREFILL(
      f"{len(prompts)} x {shape}",
      core,
      params,
      tokens,
      counts,
      table,
      index,
      keep,
      left=left,
      spare=room,
    )
    jax.block_until_ready(logits)
    middle = time.perf_counter()
    made, _ = DECODE(
      f"{len(prompts)} x {shape} + {room}",
      core,
      params,
      cache,
      logits,
      jax.random.key(seed),
      np.asarray(stop, np.int32),
      np.int32(max_new_tokens),
      settings,
      room=room,
      greedy=temperature == 0,
    )
    out, count, done = jax.device_get(made)
  end = time.perf_counter()
  rows = [row[:n].tolist() for row, n in zip(out, count, strict=True)]
  return Generated(rows, done.tolist(), middle - start, end - middle)


def dropped(
  model, counts: np.ndarray, index: np.ndarray | None, length: int, lengths: tuple[int, ...]
) -> tuple[np.ndarray, tuple[int, ...]]:
  """What visual dropout keeps of prompts of `counts` tokens: i32 [B stages 1], and the bucket that
  the prompts are shortened to after every stage."""
  visual = np.zeros_like(counts) if index is None else (index != TEXT).sum(1)
  stages = getattr(model.llm, "stages", ())
  kept = dropout_stages.kept(visual, stages)
  most = (counts - visual + kept).max(1)
  left = tuple(min(length, bucket(int(n), lengths, "config.infer.lengths")) for n in most)
  return np.ascontiguousarray(kept.T)[:, :, None], left


def prefill(
  model, params, tokens, lengths, table, visual_index, keep, *, left: tuple[int, ...], spare: int
):
  """Reads right-padded prompts [B L] -> logits of the next token [B V], and the cache."""
  last, cache = model.apply(
    {"params": params},
    tokens,
    lengths,
    table,
    visual_index,
    keep,
    left,
    spare,
    CHUNK,
    method="read",
  )
  return model.apply({"params": params}, last[:, None], method="logits")[:, 0], cache


def decode(model, params, cache, logits, key, stop, limit, settings, *, room: int, greedy: bool):
  """Up to `limit` tokens a row -> (ids [B N], how many of them count [B], whether it stopped [B]),
  and the cache, which is updated in place and lacks the last token.

  One while_loop on the device; it ends when every row has met a stop id.
  """
  batch = logits.shape[0]

  def choose(logits, step):
    real = jnp.arange(logits.shape[-1]) < settings["vocab"]
    logits = jnp.where(real, logits.astype(jnp.float32), -jnp.inf)
    if greedy:
      return sampling.greedy(logits)
    return sampling.draw(
      logits,
      jax.random.fold_in(key, step),
      settings["temperature"],
      settings["top_p"],
      settings["top_k"],
    )

  def put(state, logits, cache):
    step, out, count, done, _, _ = state
    token = choose(logits, step)
    out = lax.dynamic_update_slice(out, token[:, None], (0, step))
    done = done | (token[:, None] == stop).any(-1)
    return step + 1, out, count + ~done, done, token, cache

  def body(state):
    token, cache = state[-2:]
    hidden, cache = model.apply(
      {"params": params}, token[:, None], cache.length[:, None], cache, method="extend"
    )
    return put(state, model.apply({"params": params}, hidden, method="logits")[:, 0], cache)

  zeros = jnp.zeros((batch,), jnp.int32)
  empty = (jnp.int32(0), jnp.zeros((batch, room), jnp.int32), zeros, zeros > 0, zeros, cache)
  more = lambda state: (state[0] < limit) & ~state[3].all()
  _, out, count, done, _, cache = lax.while_loop(more, body, put(empty, logits, cache))
  return (out, count, done), cache


PREFILL = Program("prefill", prefill, static_argnums=0, static_argnames=("left", "spare"))
DECODE = Program(
  "decode", decode, static_argnums=0, static_argnames=("room", "greedy"), donate_argnums=2
)


class _Absent(nn.Module):
  """Stands where a part is not used."""


def language(model):
  """The model with its llm alone, so that models which see differently share compiled programs."""
  none = _Absent()
  return model.clone(
    encoder=none, selector=none, merger=none, projector=none, encode_chunk=0, processor=None
  )


def pad(rows: Sequence[Sequence[int]], length: int, value: int) -> np.ndarray:
  """Lists of ints -> int32 [B length], filled up on the right."""
  out = np.full((len(rows), length), value, np.int32)
  for line, row in zip(out, rows, strict=True):
    line[: len(row)] = row
  return out


def context(model) -> int:
  """How many positions the llm can read: what it was trained on, or what YaRN stretches it to."""
  llm = model.llm
  return llm.positions if llm.yarn is None else int(llm.yarn[0] * llm.yarn[1])


def check_prompts(model, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
  """Raises ValueError if a prompt is empty or does not fit in the model's context."""
  if not prompts or not min(map(len, prompts)):
    raise ValueError("generate() needs at least one prompt, and one token in every prompt.")
  longest = max(map(len, prompts))
  if longest + max_new_tokens > context(model):
    raise ValueError(
      f"A prompt of {longest} tokens and max_new_tokens={max_new_tokens} exceed the context of "
      f"{context(model)}. Lower config.infer.sampling.frames or max_new_tokens, or set "
      f"config.model.llm.yarn=(factor, {model.llm.positions})."
    )


def check_settings(max_new_tokens: int, temperature: float, top_p: float, top_k: int) -> None:
  """Raises ValueError naming the setting that cannot be."""
  if max_new_tokens < 1:
    raise ValueError(f"max_new_tokens={max_new_tokens} leaves nothing to say. Set it to 1 or more.")
  if not temperature >= 0:
    raise ValueError(f"temperature={temperature} must not be negative; 0 is greedy.")
  if not 0 < top_p <= 1:
    raise ValueError(f"top_p={top_p} must lie in (0, 1]; 1 keeps every token.")
  if top_k < 0:
    raise ValueError(f"top_k={top_k} must not be negative; 0 keeps every token.")
