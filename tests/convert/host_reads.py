# SPDX-License-Identifier: Apache-2.0
"""One host of two with four devices each: loads a language model onto the mesh of both, from a
PyTorch folder and from the checkpoint made of it, and prints the bytes it read and holds as JSON.

  python host_reads.py RANK PORT PYTORCH_FOLDER RUN '{"fsdp": 8}'
"""

import dataclasses
import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import numpy as np
import tensorstore

from filax.checkpoint import store
from filax.checkpoint.tree import unflatten_tree
from filax.checkpoint.tuples import as_tuples
from filax.convert import tensor_plan
from filax.models import components
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules

METRIC = "/tensorstore/kvstore/file/bytes_read"


def main(rank: str, port: str, folder: str, run: str, sizes: str) -> None:
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
  model = tensor_plan.SMALLEST_MODEL | as_tuples(store.read_config(run)["model"])
  plan = tensor_plan.plan_tensors(
    model, [tensor_plan.open_source(folder, ("llm",))], roles=("llm",)
  )
  mesh, table = mesh_lib.make_mesh(json.loads(sizes)), components.dims_table(model)
  shardings = {
    mapping.path: jax.sharding.NamedSharding(
      mesh, rules.parameter_spec(table, mapping.path, mapping.shape)
    )
    for mapping in plan.mappings
  }
  counts: list[int] = []
  plan.tensors = {name: counted(tensor, counts) for name, tensor in plan.tensors.items()}
  direct = tensor_plan.load_parameters(plan, shardings)
  leaves = {}
  for mapping in plan.mappings:
    leaves[mapping.path] = jax.ShapeDtypeStruct(
      mapping.shape, plan.parameter_dtype(mapping), sharding=shardings[mapping.path]
    )
  like = unflatten_tree(leaves)
  before = stored()
  restored, missing, extra = store.restore_params(run, like)
  after = stored()
  assert not missing and not extra
  same = jax.tree.map(lambda a, b: shards(a) == shards(b), direct, restored)
  print(
    json.dumps(
      dict(
        held=sum(sum(map(len, shards(x).values())) for x in jax.tree.leaves(direct)),
        whole=sum(x.nbytes for x in jax.tree.leaves(direct)),
        same=all(jax.tree.leaves(same)),
        from_pytorch=sum(counts),
        from_checkpoint=after - before,
      )
    )
  )


def counted(tensor, counts: list[int]):
  """The same tensor, which writes down the bytes of every reading."""

  def get(index):
    x = tensor.get(index)
    counts.append(x.nbytes)
    return x

  return dataclasses.replace(tensor, get=get)


def stored() -> int:
  """Bytes that TensorStore has read from files so far."""
  found = tensorstore.experimental_collect_matching_metrics(METRIC)
  return sum(value["value"] for metric in found for value in metric["values"])


def shards(x: jax.Array) -> dict[str, bytes]:
  """What this host holds of an array, each part once."""
  return {str(s.index): np.asarray(s.data).tobytes() for s in x.addressable_shards}


if __name__ == "__main__":
  main(*sys.argv[1:])
