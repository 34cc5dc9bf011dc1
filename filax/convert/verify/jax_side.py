# SPDX-License-Identifier: Apache-2.0
"""The FiLax side of --verify, which runs in a process of its own.

It reads a checkpoint and inputs, and writes features and logits.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from filax.checkpoint import streamed
from filax.checkpoint.parameter_reader import ParameterReader
from filax.checkpoint.tree import unflatten_tree
from filax.checkpoint.tuples import as_tuples
from filax.convert import tensor_plan
from filax.convert.verify import compare
from filax.models import components
from filax.spec.visual_order import NEWLINE, video_order

Params = Mapping[str, Any]


def main(argv: Sequence[str]) -> None:
  """Runs the FiLax side: jax_side FOLDER OUT stages|"".

  Reads FOLDER/job.json and FOLDER/inputs.npz, and writes OUT. With "stages", OUT also has the
  output of every layer.
  """
  jax.config.update("jax_default_matmul_precision", "highest")
  job, arrays, out, stages = compare.read_job(argv)
  config = tensor_plan.SMALLEST_MODEL | as_tuples(job["model"])
  config |= dict(dtype=job["dtype"], param_dtype=job["dtype"])
  model = components.build_video_lm(config)
  params = read_roles(Path(job["checkpoint"]), job["roles"])
  outputs: compare.Arrays = {}
  if "encoder" in params:
    frames = jnp.asarray(arrays["frames"])
    outputs |= encoder_outputs(model.encoder, params["encoder"], frames, stages)
  table = None
  if job["splice"]:
    outputs["visual"] = _to_numpy(visual_tokens(model, params, arrays["frames"]))
    table = jnp.asarray(outputs["visual"])
  if "llm" in params:
    outputs |= llm_outputs(model.llm, params["llm"], arrays["tokens"], table, stages)
  compare.write_arrays(out, outputs)


def read_roles(checkpoint: Path, roles: Sequence[str]) -> dict[str, Any]:
  """Reads the parameters of some roles, and those of the merger."""
  step = streamed.step_folder(checkpoint)
  leaves = {}
  reader = ParameterReader(step)
  for path in tensor_plan.leaves_of_roles(reader.leaves, (*roles, "merger")):
    leaves[path] = jnp.asarray(reader.whole(path))
  return unflatten_tree(leaves)


def encoder_outputs(encoder, params: Params, frames, stages: bool) -> compare.Arrays:
  """Features [T N E]; with `stages` also the output of every layer."""
  outputs = {}
  clips = frames.reshape(-1, encoder.clip, *frames.shape[1:])
  if stages:
    embed = jit_method(encoder, "embed")
    inputs = frames if encoder.clip == 1 else clips
    x = embed(params, inputs)
    outputs["encoder.embeddings"] = _to_numpy(x)
    run_block = jit_method(encoder.clone(depth=1), "blocks")
    for i in range(encoder.depth):
      x = run_block(layer_params(params, i), x)
      outputs[f"encoder.layers.{i}"] = _to_numpy(x)
  features = _to_numpy(jit_method(encoder)(params, clips))
  outputs["features"] = features.reshape(len(frames), -1, features.shape[-1])
  return outputs


def jit_method(module, method=None):
  """Compiles a module's method as a function (params, x) -> output."""

  def apply(params: Params, x):
    return module.apply({"params": params}, x, method=method)

  return jax.jit(apply)


def visual_tokens(model, params: Params, frames: np.ndarray):
  """The llm's visual tokens of frames, newlines included: [M D]."""
  table = visual_table(model, params, jnp.asarray(frames))
  groups = len(frames) // model.selector.size
  order = video_order(groups, model.layout())
  newline_row = len(table) - 1
  return table[np.where(order == NEWLINE, newline_row, order)]


def visual_table(model, params: Params, frames):
  """The visual tokens of all groups, then the newline vector: [M D]."""
  no_images = jnp.zeros((1, 0, *frames.shape[1:]), jnp.uint8)
  mask = jnp.ones((1, len(frames)), bool)

  def embed_frames(params, frames, mask):
    return model.apply({"params": params}, frames, mask, no_images, method="embed")

  return jax.jit(embed_frames)(params, frames[None], mask).table[0]


def llm_outputs(llm, params: Params, tokens, table, stages: bool) -> compare.Arrays:
  """Logits [L V] of a prompt of text and visual tokens.

  The visual tokens stand after the first quarter of the text. With `stages`, the result also has
  the output of every layer.
  """

  def forward(llm, tokens, table):
    x = splice_visual(llm, tokens, table)
    positions = jnp.arange(x.shape[1])[None]
    hidden, *_ = llm(x, positions)
    return llm.logits(hidden)

  def apply(params, tokens, table):
    return llm.apply({"params": params}, tokens, table, method=forward)

  tokens = jnp.asarray(tokens)
  logits = jax.jit(apply)(params, tokens, table)
  outputs = layer_outputs(llm, params, tokens, table) if stages else {}
  outputs["logits"] = _to_numpy(logits[0])
  return outputs


def splice_visual(llm, tokens, table):
  """Embedded tokens with `table` after their first quarter: [1 L D]."""
  x = llm.embed(tokens)
  if table is None:
    return x
  cut = tokens.shape[1] // 4
  before = x[:, :cut]
  after = x[:, cut:]
  visual = table[None].astype(x.dtype)
  return jnp.concatenate([before, visual, after], axis=1)


def layer_outputs(llm, params: Params, tokens, table) -> compare.Arrays:
  """The output of the embedding and of every layer of the llm."""
  x = llm.apply({"params": params}, tokens, table, method=splice_visual)
  outputs = {"llm.embed_tokens": _to_numpy(x[0])}
  positions = jnp.arange(x.shape[1])[None]
  block = llm.clone(depth=1)

  @jax.jit
  def run_block(params, x):
    hidden, *_ = block.apply({"params": params}, x, positions, method="blocks")
    return hidden

  for i in range(llm.depth):
    x = run_block(layer_params(params, i), x)
    outputs[f"llm.layers.{i}"] = _to_numpy(x[0])
  return outputs


def layer_params(params: Params, layer: int) -> dict[str, Any]:
  """The parameters of a model of depth 1 with this layer."""
  layers = jax.tree.map(lambda x: x[layer : layer + 1], params["layers"])
  return dict(params) | {"layers": layers}


def _to_numpy(x) -> np.ndarray:
  return np.asarray(x, np.float32)


if __name__ == "__main__":
  main(sys.argv)
