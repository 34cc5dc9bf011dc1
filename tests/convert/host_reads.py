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

from filax.checkpoint import store, streamed
from filax.convert import tensor_plan
from filax.convert.config_in import tuples
from filax.models import components
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules

METRIC = "/tensorstore/kvstore/file/bytes_read"


def main(rank: str, port: str, folder: str, run: str, sizes: str) -> None:
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
  model = tensor_plan.SMALL | tuples(store.read_config(run)["model"])
  found = tensor_plan.plan(model, [tensor_plan.source(folder, ("llm",))], roles=("llm",))
  mesh, table = mesh_lib.make(json.loads(sizes)), components.dims_table(model)
  shardings = {
    place.path: jax.sharding.NamedSharding(
      mesh, rules.parameter_spec(table, place.path, place.shape)
    )
    for place in found.places
  }
  counts: list[int] = []
  found.taken = {name: counted(tensor, counts) for name, tensor in found.taken.items()}
  direct = tensor_plan.params(found, shardings)
  like = {}
  for place in found.places:
    streamed.nest(
      like,
      place.path,
      jax.ShapeDtypeStruct(place.shape, found.dtype(place), sharding=shardings[place.path]),
    )
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
