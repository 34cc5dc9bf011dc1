# SPDX-License-Identifier: Apache-2.0
"""Compares full training, LoRA and QLoRA, in FiLax and with PEFT: tokens per second, and bytes.

  python -m benchmarks.adapters [--depth 4] [--length 256] [--rounds 5] [--out FILE.json]

Both train a Qwen2 with the width of the 0.5B model on the same tokens, on this CPU, in float32 and
with AdamW. The weights are random, and the vocabulary is small. The variants take turns, step by
step, and the median of each counts. On a busy machine the times cannot be compared, not even CPU
seconds, because waiting threads of PyTorch use CPU time.

Bytes are those of the parameters and the optimizer after a step. For FiLax, the compiler also
reports the temporary memory of a step. PEFT has no QLoRA on a CPU: its 4 bits need bitsandbytes,
which needs a GPU. The program needs torch, transformers and peft, and prints JSON.
"""

import argparse
from collections.abc import Iterator, Mapping
import json
import pathlib
import statistics
import time
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from filax.checkpoint.tree import flatten_tree, unflatten_tree
from filax.models import lora, quantised
from filax.models.llms import qwen2
from filax.train import optim, step
from filax.train.state import TrainState, create_state

# The layers of Qwen2-0.5B, with a small vocabulary.
SIZES = dict(width=896, heads=14, kv_heads=2, head_dim=64, mlp=4864, vocab=4096)
RANK = 16
KINDS = ("full", "lora", "int8", "nf4")
OPTIM = dict(warmup=0, final=1.0, b1=0.9, b2=0.999, eps=1e-8, clip=1.0, decay=(("", 0.0),))


class Variant(Protocol):
  """One of the compared ways to train, with its training state."""

  def train_once(self) -> None:
    """Runs a step to its end."""
    ...

  def state_bytes(self) -> dict[str, int]:
    """Part -> bytes: parameters, optimizer, and temporary memory if it is known."""
    ...


def main() -> None:
  """Prints tokens per second and bytes of every variant."""
  args = _options()
  tokens = np.random.default_rng(0).integers(0, SIZES["vocab"], (1, args.length))
  variants = dict(ours(args.depth, tokens)) | dict(theirs(args.depth, tokens))
  times = measure_steps(variants, args.rounds)
  rows = []
  for name, variant in variants.items():
    seconds = times[name]["seconds"]
    row = dict(name=name) | times[name] | dict(tokens_per_second=tokens.size / seconds)
    rows.append(row | variant.state_bytes())
    print(json.dumps(rows[-1]))
  if args.out:
    settings = SIZES | vars(args)
    facts = dict(settings=settings, rank=RANK, machine=machine.describe_machine(), rows=rows)
    pathlib.Path(args.out).write_text(json.dumps(facts, indent=1) + "\n")


def measure_steps(variants: Mapping[str, Variant], rounds: int) -> dict[str, dict[str, float]]:
  """Times the steps of all variants.

  Returns name of a variant -> its median `seconds` and `cpu_seconds`.
  """
  for variant in variants.values():
    variant.train_once()  # The first step compiles, and is not measured.
  seconds: dict[str, list[float]] = {name: [] for name in variants}
  cpu_seconds: dict[str, list[float]] = {name: [] for name in variants}
  for _ in range(rounds):
    for name, variant in variants.items():
      start = time.perf_counter()
      cpu_start = time.process_time()
      variant.train_once()
      seconds[name].append(time.perf_counter() - start)
      cpu_seconds[name].append(time.process_time() - cpu_start)
  medians = {}
  for name in variants:
    medians[name] = dict(
      seconds=statistics.median(seconds[name]),
      cpu_seconds=statistics.median(cpu_seconds[name]),
    )
  return medians


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--depth", type=int, default=4)
  parser.add_argument("--length", type=int, default=256)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--out", default="", help="a JSON file for the results")
  return parser.parse_args()


def ours(depth: int, tokens: np.ndarray) -> Iterator[tuple[str, Variant]]:
  """The variants of FiLax: ("ours full", variant) and so on."""
  model = qwen2.Model(**SIZES, depth=depth, tied=True, remat="none")
  batch = jnp.asarray(tokens)
  places = jnp.arange(tokens.shape[1])[None]
  states = jnp.zeros((*tokens.shape, SIZES["width"]))
  params = model.init(jax.random.key(0), states, places)["params"]

  def loss(params, batch, rng):
    del rng
    variables = {"params": params}
    states = model.apply(variables, batch, method="embed")
    states, _ = model.apply(variables, states, places)
    logits = model.apply(variables, states, method="logits")
    log_probabilities = jax.nn.log_softmax(logits[:, :-1])
    targets = batch[:, 1:, None]
    nll = -jnp.take_along_axis(log_probabilities, targets, axis=-1)
    sums = dict(count=jnp.float32(nll.size), hits=0.0, places=1.0, supervised=1.0, tokens=1.0)
    return nll.sum(), sums

  for kind in KINDS:
    leaves = adapted_leaves(flatten_tree(params), kind)
    rates = (("", 1e-5),) if kind == "full" else (("lora_[ab]$", 1e-4), ("", 0.0))
    tree = jax.tree.map(jnp.copy, unflatten_tree(leaves))
    optimizer = optim.make_optimizer(OPTIM | dict(rates=rates), tree, 1000)
    train_step = jax.jit(step.make_train_step(loss, optimizer), donate_argnums=0)
    yield f"ours {kind}", OurVariant(train_step, create_state(tree, optimizer, 0), batch)


def adapted_leaves(leaves: dict[str, Any], kind: str) -> dict[str, Any]:
  """The parameters for a kind of training.

  With adapters, each kernel of the blocks gets its adapters; with a quantised base, its codes
  replace it.
  """
  changed = dict(leaves)
  for path, x in leaves.items():
    if kind == "full" or not path.endswith("_proj/kernel"):
      continue
    input_axes = 2 if "o_proj" in path else 1
    kernel = lora.DenseKernel(x.shape, input_axes, stacked=True)
    added = dict(lora.draw_adapters(jax.random.key(0), kernel, RANK, 2.0 * RANK))
    if kind in quantised.KINDS:
      added |= quantised.quantise(changed.pop(path), kernel, kind)
    for name, value in added.items():
      changed[lora.adapter_name(path, name)] = value
  return changed


class OurVariant:
  """A compiled train step of FiLax."""

  def __init__(self, train_step: Any, state: TrainState, batch: jax.Array):
    self._program = train_step.lower(state, batch).compile()
    self._state = state
    self._batch = batch

  def train_once(self) -> None:
    """Runs a step to its end."""
    self._state, metrics = self._program(self._state, self._batch)
    jax.block_until_ready(metrics)

  def state_bytes(self) -> dict[str, int]:
    """Bytes of parameters, optimizer, and the temporary memory of a step."""
    parts = dict(parameters=self._state.params, optimizer=self._state.opt)
    sizes = {}
    for part, tree in parts.items():
      sizes[part] = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    temporary = self._program.memory_analysis().temp_size_in_bytes
    return sizes | dict(temporary=temporary)


def theirs(depth: int, tokens: np.ndarray) -> Iterator[tuple[str, Variant]]:
  """The variants of PyTorch: ("peft full", variant) and ("peft lora", variant)."""
  import peft
  import torch
  import transformers

  config = transformers.Qwen2Config(
    vocab_size=SIZES["vocab"],
    hidden_size=SIZES["width"],
    intermediate_size=SIZES["mlp"],
    num_hidden_layers=depth,
    num_attention_heads=SIZES["heads"],
    num_key_value_heads=SIZES["kv_heads"],
    tie_word_embeddings=True,
  )
  batch = torch.tensor(tokens)
  for kind in ("full", "lora"):
    model: Any = transformers.Qwen2ForCausalLM(config).float().train()
    if kind == "lora":
      targets = "all-linear"
      adapters = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets)
      model = peft.get_peft_model(model, adapters)
    trained = [x for x in model.parameters() if x.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0, fused=True)
    yield f"peft {kind}", TorchVariant(model, optimizer, batch)


class TorchVariant:
  """A train step of PyTorch, with adapters of PEFT or without."""

  def __init__(self, model: Any, optimizer: Any, batch: Any):
    self._model = model
    self._optimizer = optimizer
    self._batch = batch

  def train_once(self) -> None:
    """Runs a step to its end."""
    import torch

    loss = self._model(self._batch, labels=self._batch, use_cache=False).loss
    self._optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self._model.parameters(), OPTIM["clip"])
    self._optimizer.step()

  def state_bytes(self) -> dict[str, int]:
    """Bytes of parameters and of the optimizer."""
    parameters = sum(x.nbytes for x in self._model.parameters())
    optimizer = 0
    for moments in self._optimizer.state.values():
      for x in moments.values():
        optimizer += x.nbytes
    return dict(parameters=parameters, optimizer=optimizer)


if __name__ == "__main__":
  main()
