# SPDX-License-Identifier: Apache-2.0
"""Loading straight onto a mesh: every process reads what its devices hold, and no more."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from free_ports import free_port
import jax
import numpy as np
import pytest

from filax.checkpoint.tree import flatten_tree
from filax.convert import (
  ConversionError,
  file_names,
  import_folder,
  import_inputs,
  tensor_map,
  tensor_plan,
)
from filax.models import components
from filax.parallel import mesh as mesh_lib
from filax.parallel import rules
from filax.testing import qwen2_folder

MODEL = tensor_plan.SMALLEST_MODEL | dict(
  llm=dict(
    name="qwen2",
    width=qwen2_folder.WIDTH,
    depth=qwen2_folder.DEPTH,
    heads=4,
    kv_heads=2,
    head_dim=4,
    mlp=qwen2_folder.MLP,
    vocab=qwen2_folder.VOCAB,
  )
)


def planned(folder, **options):
  source = tensor_plan.open_source(qwen2_folder.write_qwen2_folder(folder), ("llm",))
  return tensor_plan.plan_tensors(MODEL, [source], roles=("llm",), **options)


def layout(found, **sizes):
  """path -> sharding of every parameter on a mesh of eight devices."""
  mesh = mesh_lib.make_mesh(sizes, jax.devices()[:8])
  table = components.dims_table(MODEL)
  return {
    place.path: jax.sharding.NamedSharding(
      mesh, rules.parameter_spec(table, place.path, place.shape)
    )
    for place in found.mappings
  }


@pytest.mark.parametrize("sizes", [dict(fsdp=8), dict(fsdp=2, seq=2, tensor=2), dict(data=8)])
def test_a_mesh_gets_the_same_numbers(sizes, tmp_path):
  found = planned(tmp_path)
  whole = flatten_tree(tensor_plan.load_parameters(found))
  spread = flatten_tree(tensor_plan.load_parameters(found, layout(found, **sizes)))
  assert whole.keys() == spread.keys()
  for path, x in whole.items():
    np.testing.assert_array_equal(np.asarray(spread[path]), np.asarray(x))
    assert x.dtype == np.float32


def test_a_process_reads_what_its_devices_hold(tmp_path):
  found = planned(tmp_path)
  shardings = layout(found, fsdp=8)
  numbers = {}

  def counted(tensor):
    def get(index):
      x = tensor.get(index)
      numbers[tensor.name] = numbers.get(tensor.name, 0) + x.size
      return x

    return dataclasses.replace(tensor, get=get)

  found.tensors = {name: counted(tensor) for name, tensor in found.tensors.items()}
  mine = set(jax.devices()[2:4])  # A host of a pod of four.
  held = 0
  for place in found.mappings:
    where = shardings[place.path].devices_indices_map(place.shape)
    parts = {str(where[d]): where[d] for d in mine}
    for index in parts.values():
      x = tensor_plan.read_slices(found, place, index, np.float32)
      if "V" not in place.layout.ours:  # Padding rows are held, but in no file.
        held += x.size
  read = sum(n for name, n in numbers.items() if "embed" not in name and "lm_head" not in name)
  assert read == held
  assert numbers["model.layers.0.mlp.gate_proj.weight"] == qwen2_folder.MLP * qwen2_folder.WIDTH / 4


@pytest.mark.slow
def test_each_of_two_hosts_reads_its_half(tmp_path):
  """Of a PyTorch folder exactly, of a checkpoint to 1% and its tables: counted where it is read."""
  folder = qwen2_folder.write_qwen2_folder(
    tmp_path / "hub",
    qwen2_folder.qwen2_tensors(width=256, mlp=512, vocab=2048),
    hidden_size=256,
    intermediate_size=512,
    vocab_size=2048,
  )
  import_folder.import_checkpoint(import_inputs.ImportRequest(out=tmp_path / "run", source=folder))
  port = free_port()
  script, sizes = pathlib.Path(__file__).with_name("host_reads.py"), dict(fsdp=2, seq=2, tensor=2)
  hosts = [
    subprocess.Popen(
      [sys.executable, script, str(rank), str(port), folder, tmp_path / "run", json.dumps(sizes)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | {"PYTHONPATH": str(pathlib.Path.cwd())},
    )
    for rank in (0, 1)
  ]
  for host in hosts:
    said, errors = host.communicate(timeout=120)
    assert host.returncode == 0, errors[-2000:]
    lines = [line for line in said.splitlines() if line.startswith("{")]  # Gloo prints, too.
    found = json.loads(lines[-1])
    assert found["same"] and found["held"] < 0.51 * found["whole"]
    assert found["from_pytorch"] == found["held"]
    assert found["held"] <= found["from_checkpoint"] < 1.01 * found["held"] + 20_000


def test_bfloat16_halves_what_is_held(tmp_path):
  params = tensor_plan.load_parameters(planned(tmp_path), dtype=jax.numpy.bfloat16)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jax.numpy.bfloat16.dtype}


def test_a_parameter_without_a_row_is_named():
  shapes = {"llm/layers/mlp/new/kernel": jax.ShapeDtypeStruct((2, 3, 4), np.float32)}
  with pytest.raises(ConversionError, match=r"llm/layers/mlp/new/kernel \(2, 3, 4\)"):
    tensor_map.map_parameters(MODEL, shapes, 40)


def test_a_component_without_a_table_is_named():
  with pytest.raises(ValueError, match="Add TABLE to the module"):
    tensor_map.component_tables("selector", "kmeans")


def test_every_tensor_has_one_name_in_every_scheme(tmp_path):
  canonical = [name for place in planned(tmp_path).mappings for name in place.names]
  for scheme in file_names.SCHEMES.values():
    known = [scheme.file_name(name) for name in canonical]
    known = [name for name in known if name is not None]
    assert len(set(known)) == len(known)
    assert [scheme.canonical(name) for name in known] in ([], canonical)


def test_names_of_no_scheme():
  with pytest.raises(ValueError, match="such as"):
    file_names.detect_scheme(["h.0.attn"], ["llm.layers.0.mlp.up_proj.weight"])
