# SPDX-License-Identifier: Apache-2.0
"""Our side of --verify, run as a process: checkpoint and inputs in, features and logits out."""

from collections.abc import Mapping
from pathlib import Path
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from filax.checkpoint import streamed
from filax.convert import tensor_plan
from filax.convert.config_in import tuples
from filax.convert.verify import compare
from filax.models import components


def main(argv) -> None:
  """jax_side FOLDER OUT stages|"": reads FOLDER/job.json and inputs.npz, writes OUT."""
  jax.config.update("jax_default_matmul_precision", "highest")
  job, arrays, out, stages = compare.start(argv)
  model = components.build_video_lm(
    tensor_plan.SMALL | tuples(job["model"]) | dict(dtype=job["dtype"], param_dtype=job["dtype"])
  )
  params = read(Path(job["checkpoint"]), job["roles"])
  found = {}
  if "encoder" in params:
    frames = jnp.asarray(arrays["frames"])
    found |= encode(model.encoder, params["encoder"], frames, stages)
  if job["splice"]:
    found["visual"] = np.asarray(visual(model, params, arrays["frames"]), np.float32)
  if "llm" in params:
    found |= answer(model.llm, params["llm"], arrays["tokens"], found.get("visual"), stages)
  np.savez(out, **found)


def read(checkpoint: Path, roles) -> dict[str, Any]:
  """The parameters of some roles."""
  step, tree = streamed.step_folder(checkpoint), {}
  for path in streamed.shapes(step):
    if path.split("/")[0] in (*roles, "merger"):
      streamed.nest(tree, path, jnp.asarray(streamed.read(step, path)))
  return {role: x for role, x in tree.items() if role in roles or role == "merger"}


def encode(encoder, params: Mapping, frames, stages: bool) -> dict[str, np.ndarray]:
  """features [T N E]; with `stages` the output of every layer."""
  clips = frames.reshape(-1, encoder.clip, *frames.shape[1:])
  found = {}
  if stages:
    embed = jax.jit(lambda p, x: encoder.apply({"params": p}, x, method="embed"))
    x = embed(params, frames if encoder.clip == 1 else clips)
    found["encoder.embeddings"] = np.asarray(x, np.float32)
    one = encoder.clone(depth=1)
    layer = jax.jit(lambda p, x: one.apply({"params": p}, x, method="blocks"))
    for i in range(encoder.depth):
      x = layer(sliced(params, i), x)
      found[f"encoder.layers.{i}"] = np.asarray(x, np.float32)
  x = jax.jit(lambda p, x: encoder.apply({"params": p}, x))(params, clips)
  return found | {"features": np.asarray(x, np.float32).reshape(len(frames), -1, x.shape[-1])}


def visual(model, params: Mapping, frames: np.ndarray):
  """[M D]: what the llm sees of the frames, with the newlines where they stand."""
  tokens = groups(model, params, jnp.asarray(frames))
  newline, mode = tokens[-1], model.projector.newline
  count, layout = len(frames) // model.selector.size, model.layout()
  rows, columns = layout.group_grid
  index = np.arange(count * rows * columns)
  ends = {"one_token": len(index), "grid": columns, "frame": rows * columns, "none": 0}[mode]
  if not ends:
    return tokens[:-1]
  parts = tokens[index].reshape(-1, ends, tokens.shape[-1])
  line = jnp.broadcast_to(newline, (len(parts), 1, newline.shape[-1]))
  return jnp.concatenate([parts, line], axis=1).reshape(-1, tokens.shape[-1])


def groups(model, params: Mapping, frames):
  """Visual tokens of all groups, then the newline vector [M D]."""
  none = jnp.zeros((1, 0, *frames.shape[1:]), jnp.uint8)
  embed = jax.jit(lambda p, x, m: model.apply({"params": p}, x, m, none, method="embed"))
  return embed(params, frames[None], jnp.ones((1, len(frames)), bool)).table[0]


def answer(llm, params: Mapping, tokens, table, stages: bool) -> dict[str, np.ndarray]:
  """logits [L V] of the text with the visual tokens after its first quarter."""

  def whole(params, tokens, table):
    def body(llm):
      x = spliced(llm, tokens, table)
      positions = jnp.arange(x.shape[1])[None]
      return llm.logits(llm(x, positions)[0])

    return llm.apply({"params": params}, method=lambda m: body(m))

  table = None if table is None else jnp.asarray(table)
  logits = jax.jit(whole)(params, jnp.asarray(tokens), table)
  found = layers(llm, params, tokens, table) if stages else {}
  return found | {"logits": np.asarray(logits[0], np.float32)}


def spliced(llm, tokens, table):
  """Embedded tokens [1 L D] with the table after their first quarter."""
  x = llm.embed(tokens)
  if table is None:
    return x
  cut = tokens.shape[1] // 4
  return jnp.concatenate([x[:, :cut], table[None].astype(x.dtype), x[:, cut:]], axis=1)


def layers(llm, params: Mapping, tokens, table) -> dict[str, np.ndarray]:
  """The output of every module of the llm."""
  x = llm.apply({"params": params}, method=lambda m: spliced(m, jnp.asarray(tokens), table))
  found = {"llm.embed_tokens": np.asarray(x[0], np.float32)}
  positions, one = jnp.arange(x.shape[1])[None], llm.clone(depth=1)
  layer = jax.jit(lambda p, x: one.apply({"params": p}, x, positions, method="blocks")[0])
  for i in range(llm.depth):
    x = layer(sliced(params, i), x)
    found[f"llm.layers.{i}"] = np.asarray(x[0], np.float32)
  return found


def sliced(params: Mapping, layer: int) -> dict[str, Any]:
  """The parameters of a model of one layer."""
  return dict(params) | {"layers": jax.tree.map(lambda x: x[layer : layer + 1], params["layers"])}


if __name__ == "__main__":
  main(sys.argv)
