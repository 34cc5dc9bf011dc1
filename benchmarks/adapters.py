# SPDX-License-Identifier: Apache-2.0
"""Training in full, LoRA and QLoRA: tokens a second and bytes, ours and PEFT's, on this CPU.

  python -m benchmarks.adapters [--depth 4] [--length 256] [--rounds 5] [--out FILE.json]

Both train a Qwen2 of the 0.5B's width in float32 with random weights and a small vocabulary, on the
same tokens, by AdamW. Steps of all variants alternate, and medians count. On a busy machine neither
seconds nor CPU seconds compare: threads of PyTorch that wait for others spend CPU time.

Bytes are those of the parameters and of the optimizer after a step; the compiler adds what a step
of ours needs beside them. PEFT has no QLoRA here: its 4 bits need bitsandbytes, which computes on
GPUs. Needs torch, transformers and peft. Prints JSON.
"""

import argparse
from collections.abc import Iterator
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

SIZES = dict(width=896, heads=14, kv_heads=2, head_dim=64, mlp=4864, vocab=4096)  # Of the 0.5B.
RANK = 16
KINDS = ("full", "lora", "int8", "nf4")
OPTIM = dict(warmup=0, final=1.0, b1=0.9, b2=0.999, eps=1e-8, clip=1.0, decay=(("", 0.0),))


class Variant(Protocol):
  """A way to train, with its state."""

  def train_once(self) -> None:
    """Runs a step to its end."""
    ...

  def state_bytes(self) -> dict[str, int]:
    """Bytes by part: parameters, optimizer, and temporary ones where they are known."""
    ...


def main() -> None:
  """Prints tokens a second and bytes of every variant."""
  args = _options()
  tokens = np.random.default_rng(0).integers(0, SIZES["vocab"], (1, args.length))
  variants = dict(ours(args.depth, tokens)) | dict(theirs(args.depth, tokens))
  seconds: dict[str, list[float]] = {name: [] for name in variants}
  cpu_seconds: dict[str, list[float]] = {name: [] for name in variants}
  for variant in variants.values():
    variant.train_once()  # Compiles.
  for _ in range(args.rounds):
    for name, variant in variants.items():
      began = time.perf_counter()
      cpu_began = time.process_time()
      variant.train_once()
      seconds[name].append(time.perf_counter() - began)
      cpu_seconds[name].append(time.process_time() - cpu_began)
  rows = []
  for name, values in seconds.items():
    second = statistics.median(values)
    cpu_second = statistics.median(cpu_seconds[name])
    speed = dict(seconds=second, cpu_seconds=cpu_second, tokens_per_second=tokens.size / second)
    rows.append(dict(name=name) | speed | variants[name].state_bytes())
    print(json.dumps(rows[-1]))
  if args.out:
    facts = dict(
      settings=SIZES | vars(args), rank=RANK, machine=machine.describe_machine(), rows=rows
    )
    pathlib.Path(args.out).write_text(json.dumps(facts, indent=1) + "\n")


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--depth", type=int, default=4)
  parser.add_argument("--length", type=int, default=256)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--out", default="", help="a JSON file for the results")
  return parser.parse_args()


def ours(depth: int, tokens: np.ndarray) -> Iterator[tuple[str, Variant]]:
  """("ours full", variant), ... of every kind."""
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
    logits = jax.nn.log_softmax(model.apply(variables, states, method="logits")[:, :-1])
    nll = -jnp.take_along_axis(logits, batch[:, 1:, None], axis=-1)
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
  """The parameters with adapters, and with codes in place of kernels."""
  changed = dict(leaves)
  for path, x in leaves.items():
    if kind == "full" or not path.endswith("_proj/kernel"):
      continue
    kernel = lora.DenseKernel(x.shape, 2 if "o_proj" in path else 1, stacked=True)
    for name, value in lora.draw_adapters(jax.random.key(0), kernel, RANK, 2.0 * RANK).items():
      changed[lora.adapter_name(path, name)] = value
    if kind in quantised.KINDS:
      for name, value in quantised.quantise(changed.pop(path), kernel, kind).items():
        changed[lora.adapter_name(path, name)] = value
  return changed


class OurVariant:
  """A compiled step of ours."""

  def __init__(self, train_step: Any, state: TrainState, batch: jax.Array):
    self._program = train_step.lower(state, batch).compile()
    self._state = state
    self._batch = batch

  def train_once(self) -> None:
    """Runs a step to its end."""
    self._state, metrics = self._program(self._state, self._batch)
    jax.block_until_ready(metrics)

  def state_bytes(self) -> dict[str, int]:
    """Bytes of parameters, optimizer, and what a step needs beside them."""
    sizes = {}
    for part, tree in (("parameters", self._state.params), ("optimizer", self._state.opt)):
      sizes[part] = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    return sizes | dict(temporary=self._program.memory_analysis().temp_size_in_bytes)


def theirs(depth: int, tokens: np.ndarray) -> Iterator[tuple[str, Variant]]:
  """("peft full", variant) and ("peft lora", variant)."""
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
    yield f"peft {kind}", TorchVariant(model, torch.optim.AdamW(trained, 1e-5), batch)


class TorchVariant:
  """A step of PyTorch, with adapters of PEFT or without."""

  def __init__(self, model: Any, optimizer: Any, batch: Any):
    self._model = model
    self._optimizer = optimizer
    self._batch = batch

  def train_once(self) -> None:
    """Runs a step to its end."""
    loss = self._model(self._batch, labels=self._batch).loss
    self._optimizer.zero_grad()
    loss.backward()
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
