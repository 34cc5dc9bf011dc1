# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of format 1, of which two lie in tests/golden/format1, still resume and are read."""

import hashlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from filax.checkpoint import store, streamed, tree
from filax.testing import row_source
from filax.train import loop

pytestmark = pytest.mark.slow

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "format1"
SHA256 = {  # Of the parameters, as the FiLax that wrote them read them.
  "trained": "0b97136c070b7724c38c8e3035468a62f1031a5a78deca5838ab7a46166593db",
  "converted": "7bf9983018387e17e670f7cf7b43161b20cf4121c8ffbb7d7fcf1333d6890901",
}


class Rows(row_source.RandomRows):
  """Rows of a vocabulary of 320."""

  def _batches(self, start):
    for batch in super()._batches(start):
      batch["tokens"] %= 320
      batch["targets"] %= 320
      yield batch


def config():
  c = row_source.tiny_train_config(batch=2, steps=4, checkpoint_every=2, keep=0)
  with c.unlocked():
    c.model.encoder.update(dict(width=8, depth=1, heads=2, mlp=8))
    c.model.llm.update(
      dict(width=8, depth=2, heads=2, kv_heads=1, head_dim=4, mlp=8, vocab=320, tied=True)
    )
    c.optim.rates = (("^encoder/", 0.0), ("", 1e-3))
    c.data.tokenizer = ""
    c.mesh = dict(data=1, fsdp=1, seq=1, tensor=1)
  return c


def sha256(leaves) -> str:
  sums = {
    path: hashlib.sha256(np.asarray(x).tobytes()).hexdigest()[:16]
    for path, x in sorted(leaves.items())
  }
  return hashlib.sha256(json.dumps(sums).encode()).hexdigest()


def test_it_resumes(tmp_path, capsys):
  """As the FiLax that wrote it went on; what is written then is of today's format."""
  shutil.copytree(GOLDEN / "trained", tmp_path, dirs_exist_ok=True)
  loop.train_pipeline(config(), tmp_path, Rows(2), devices=jax.devices()[:1])
  assert "Resuming at step 2, row 4" in capsys.readouterr().err
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  losses = [json.loads(line)["loss"] for line in lines]
  np.testing.assert_allclose(losses, [6.482706069946289, 7.150193691253662], rtol=1e-5)
  written = json.loads((tmp_path / "checkpoints" / "4" / "data" / "metadata").read_text())
  assert written["format"] == store.FORMAT and written["row"] == 8
  assert store.read_config(tmp_path)["steps"] == 4


@pytest.mark.parametrize("name", SHA256)
def test_parameters_are_read(name):
  params, missing, extra = store.restore_params(GOLDEN / name)
  assert not missing and not extra
  assert sha256(tree.flatten_tree(params)) == SHA256[name]


@pytest.mark.parametrize("name", SHA256)
def test_conversion_reads_it(name):
  step = streamed.step_folder(GOLDEN / name)
  digests = streamed.read_json(step, "data")["digests"]
  leaves = {}
  for path in streamed.shapes(step):
    layers = list(streamed.read_layers(step, path)) if "layers" in path else []
    leaves[path] = streamed.read_parameter(step, path, digests[f"params/{path}"])
    if layers:
      np.testing.assert_array_equal(
        np.concatenate([np.asarray(x).reshape(-1) for x in layers]), leaves[path].reshape(-1)
      )
  assert sha256(leaves) == SHA256[name]


def test_its_damage_is_found(tmp_path):
  shutil.copytree(GOLDEN / "trained", tmp_path, dirs_exist_ok=True)
  path = tmp_path / "checkpoints" / "2" / "data" / "metadata"
  written = json.loads(path.read_text())
  written["digests"]["params/llm/norm/scale"] ^= 1
  path.write_text(json.dumps(written))
  with pytest.raises(OSError, match="No readable checkpoint"):
    store.restore_params(tmp_path)
  written["digests"]["params/llm/norm/scale"] ^= 1
  path.write_text(json.dumps(written | dict(row=3)))
  with pytest.raises(OSError, match="No readable checkpoint"):
    store.restore_params(tmp_path)
