# SPDX-License-Identifier: Apache-2.0
"""Reading and writing safetensors against the library itself, and everything that can be wrong."""

import json
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as library
from safetensors import safe_open

from filax.convert import ConversionError, safetensors_writer, torch_files

RNG = np.random.default_rng(0)
ARRAYS = {
  "a.weight": RNG.normal(size=(3, 4)).astype(np.float32),
  "a.bias": RNG.normal(size=4).astype(ml_dtypes.bfloat16),
  "b": RNG.normal(size=(2, 3, 5)).astype(np.float16),
  "empty": np.zeros((0, 4), np.float32),
  "scalar": np.array(3.5, np.float32),
}


def equal(a, b):
  return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_files_of_the_library_are_read(tmp_path):
  library.save_file(ARRAYS, tmp_path / "x.safetensors")
  found = torch_files.open_tensors(tmp_path)
  assert found.keys() == ARRAYS.keys()
  for name, x in ARRAYS.items():
    assert equal(found[name][...,], x)
  assert equal(found["a.weight"][1:3, 2:], ARRAYS["a.weight"][1:3, 2:].copy())


@pytest.mark.parametrize("system", ["Linux", "macOS"])
def test_the_library_reads_what_is_written(tmp_path, monkeypatch, system):
  if system == "macOS":  # Which cannot reserve disk space.
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
  specs = [safetensors_writer.TensorSpec(name, x.shape, x.dtype) for name, x in ARRAYS.items()]
  with safetensors_writer.ShardWriter(tmp_path, specs, limit=60) as files:
    for name in sorted(ARRAYS, reverse=True):
      files.write_tensor(name, ARRAYS[name])
    files.finish()
  index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
  assert index["metadata"]["total_size"] == sum(x.nbytes for x in ARRAYS.values())
  assert len(set(index["weight_map"].values())) > 1
  for name, file in index["weight_map"].items():
    with safe_open(tmp_path / file, "numpy") as shard:
      assert shard.metadata() == {"format": "pt"}
      assert equal(shard.get_tensor(name), ARRAYS[name])


def test_arrays_that_are_not_contiguous_are_written_right(tmp_path):
  x = np.arange(12, dtype=np.float32).reshape(3, 4)
  safetensors_writer.write_safetensors(tmp_path / "x.safetensors", {"t": x.T})
  np.testing.assert_array_equal(library.load_file(tmp_path / "x.safetensors")["t"], x.T)


def test_layers_are_kept_in_their_order():
  names = [f"layers.{i}.w" for i in (10, 9, 1)]
  assert sorted(names, key=safetensors_writer.natural_key) == [
    "layers.1.w",
    "layers.9.w",
    "layers.10.w",
  ]


def test_a_file_holds_no_more_than_the_limit():
  specs = [safetensors_writer.TensorSpec(str(i), (10,), np.dtype(np.float32)) for i in range(7)]
  assert [len(group) for group in safetensors_writer.group_by_size(specs, 100)] == [2, 2, 2, 1]
  assert [len(group) for group in safetensors_writer.group_by_size(specs, 1)] == [1] * 7
  assert safetensors_writer.group_by_size([], 1) == [[]]


def test_a_tensor_must_be_as_announced(tmp_path):
  with safetensors_writer.ShardWriter(
    tmp_path, [safetensors_writer.TensorSpec("a", (2,), np.dtype(np.float32))]
  ) as files:
    with pytest.raises(ValueError, match="announced as"):
      files.write_tensor("a", np.zeros(3, np.float32))
  with safetensors_writer.ShardWriter(
    tmp_path / "b", [safetensors_writer.TensorSpec("a", (2,), np.dtype(np.float32))]
  ) as files:
    with pytest.raises(ValueError, match="never written"):
      files.finish()


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_cut_file_is_named(keep, tmp_path):
  library.save_file(ARRAYS, tmp_path / "x.safetensors")
  content = (tmp_path / "x.safetensors").read_bytes()
  (tmp_path / "x.safetensors").write_bytes(content[:keep])
  with pytest.raises(ConversionError, match="is cut short"):
    torch_files.open_tensors(tmp_path)


def test_all_that_is_wrong_with_an_index_is_said_at_once(tmp_path):
  library.save_file({"a": ARRAYS["a.weight"]}, tmp_path / "one.safetensors")
  (tmp_path / "two.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{not json at all")
  (tmp_path / "model.safetensors.index.json").write_text(
    json.dumps(
      dict(weight_map={"a": "one.safetensors", "b": "two.safetensors", "c": "three.safetensors"})
    )
  )
  with pytest.raises(ConversionError) as raised:
    torch_files.open_tensors(tmp_path)
  assert raised.value.problems == {
    "missing files": ["three.safetensors (named by the index)"],
    "unreadable files": ["two.safetensors has no readable safetensors header"],
  }


def test_a_name_that_no_file_holds_is_said(tmp_path):
  library.save_file({"a": ARRAYS["a.weight"]}, tmp_path / "one.safetensors")
  (tmp_path / "model.safetensors.index.json").write_text(
    json.dumps(dict(weight_map={"a": "one.safetensors", "b": "one.safetensors"}))
  )
  with pytest.raises(ConversionError, match=r"that the index names but no file holds \(1\): b"):
    torch_files.open_tensors(tmp_path)


def test_a_name_in_two_files_is_said(tmp_path):
  for file in ("one", "two"):
    library.save_file({"a": ARRAYS["a.weight"]}, tmp_path / f"{file}.safetensors")
  with pytest.raises(ConversionError, match=r"names found twice \(1\): a"):
    torch_files.open_tensors(tmp_path)


def test_nothing_to_read(tmp_path):
  with pytest.raises(OSError, match="holds no weights"):
    torch_files.open_tensors(tmp_path)
  with pytest.raises(OSError, match="no file or folder"):
    torch_files.open_tensors(tmp_path / "missing")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_found(dtype, value):
  x = RNG.normal(size=(5, 7)).astype(dtype)
  assert torch_files.all_finite(x)
  x[3, 2] = value
  assert not torch_files.all_finite(x) and not torch_files.all_finite(x.T)


def test_names_of_wrappers_are_taken_off(tmp_path):
  """As torch.compile saves them, of a whole model and of one of its layers."""
  torch = pytest.importorskip("torch")
  model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.compile(torch.nn.Linear(3, 4)))
  names = set(torch.compile(model).state_dict())
  assert "_orig_mod.1._orig_mod.weight" in names
  file = tmp_path / "compiled.safetensors"
  library.save_file({f"module.{name}": np.ones(2, np.float32) for name in names}, file)
  tensors = torch_files.open_tensors(file)
  assert set(tensors) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_a_name_with_and_without_a_wrapper_is_said(tmp_path):
  file = tmp_path / "twice.safetensors"
  library.save_file({name: np.ones(2, np.float32) for name in ("w", "module.w")}, file)
  with pytest.raises(ConversionError, match="names found twice"):
    torch_files.open_tensors(file)
