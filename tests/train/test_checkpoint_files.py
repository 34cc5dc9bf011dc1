# SPDX-License-Identifier: Apache-2.0
"""Whatever byte of a checkpoint changes: it is noticed by whoever reads that part, or harmless."""

import json
import shutil

import jax
import numpy as np
import pytest
import test_checkpoint as tiny

from filax.checkpoint import digest, record, store, streamed

pytestmark = tiny.pytestmark
CONFIG = {"batch": 4, "model": {"llm": {"name": "tiny", "width": 6}}}


def save(folder, *steps, config=CONFIG):
  with store.Checkpoints(folder, 0) as checkpoints:
    for step in steps:
      checkpoints.save(tiny.train_state(step, step), 4 * step, "plan", config)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  """(folder of a run with the steps 1 and 2, the state of step 2)."""
  folder = tmp_path_factory.mktemp("good")
  save(folder, 1, 2)
  return folder


def files(step):
  return sorted(path for path in step.rglob("*") if path.is_file())


def damaged(good, folder, name, change):
  """A copy of the run with one file of step 2 changed."""
  shutil.copytree(good, folder)
  path = folder / "checkpoints" / "2" / name
  path.write_bytes(change(path.read_bytes()))
  return folder


def flip(place: float, mask: int):
  def change(data):
    data = bytearray(data)
    data[int(place * (len(data) - 1))] ^= mask
    return bytes(data)

  return change


def stick(mask: int):
  return lambda data: bytes(byte | mask for byte in data)


def outcome(folder):
  """The step that a resumed run and a reader of parameters find; what they find is right."""
  params = None
  try:
    params, _, _ = store.restore_params(folder)
    config = store.read_config(folder)
    assert config == CONFIG
  except store.Damaged:
    raise
  except ValueError as error:
    assert "newer FiLax" in str(error)
    return "refused"
  got = tiny.restore(folder)
  tiny.equal(got.state, tiny.train_state(got.step, got.step))
  assert (got.row, got.fingerprint, got.config) == (4 * got.step, "plan", CONFIG)
  for step in (1, 2):
    try:
      tiny.equal(params, tiny.params(step))
      return got.step, step
    except AssertionError:
      continue
  raise AssertionError("The parameters are of no step.")


CHANGES = {
  "first": flip(0.0, 1),
  "third": flip(0.33, 0x80),
  "middle": flip(0.5, 0x10),
  "late": flip(0.8, 0x02),
  "last": flip(1.0, 4),
  "stuck": stick(0x80),
  "low": stick(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_byte_changes_unnoticed(good, tmp_path, change):
  """In every file of a step, at several places: the step before is used, or all is right."""
  for number, path in enumerate(files(good / "checkpoints" / "2")):
    name = path.relative_to(good / "checkpoints" / "2")
    folder = damaged(good, tmp_path / str(number), name, CHANGES[change])
    found = outcome(folder)
    parts = ("data", "config")
    if name.parts[0] in parts and name.name == "metadata":
      assert found in ((1, 1), "refused"), name


@pytest.mark.parametrize(
  ("name", "old", "new"),
  [
    ("data", '"row": 8', '"row": 4'),
    ("data", '"plan"', '"plam"'),
    ("data", '"step": 2', '"step": 1'),
    ("data", '"batch": 4', '"batch": 8'),
    ("data", "float32[6,3000]:", "float32[6,3000]:1"),
    ("data", '"format": 2', '"format": 1'),
    ("data", '"format": 2', '"format": 0'),
    ("data", '"root"', '"toor"'),
    ("data", ", ", ",  "),
    ("config", '"width": 6', '"width": 7'),
    ("config", '"batch": 4', '"batch": 8'),
    ("config", '"tiny"', '"tinx"'),
  ],
)
def test_the_root_covers_the_position_and_the_config(good, tmp_path, capsys, name, old, new):
  def change(data):
    assert old.encode() in data
    return data.replace(old.encode(), new.encode(), 1)

  folder = damaged(good, tmp_path / "run", f"{name}/metadata", change)
  assert outcome(folder) == (1, 1)
  assert "Skipping" in capsys.readouterr().err
  with pytest.raises(ValueError, match="damaged"):
    streamed.read_json(
      damaged(good, tmp_path / "again", f"{name}/metadata", change) / "checkpoints" / "2", "config"
    )


def test_a_row_that_is_not_step_x_batch_is_damage(good, tmp_path, capsys):
  """Even where all digests fit."""
  folder = tmp_path / "run"
  shutil.copytree(good, folder)
  path = folder / "checkpoints" / "2" / "data" / "metadata"
  written = json.loads(path.read_text())
  del written["root"]
  path.write_text(record.record_text(written))
  assert tiny.restore(folder).step == 2
  path.write_text(record.record_text(written | dict(row=9)))
  assert tiny.restore(folder).step == 1
  assert "step 2 x config.batch" in capsys.readouterr().err


def test_a_step_under_another_name_is_damage(good, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(good, folder)
  (folder / "checkpoints" / "2").rename(folder / "checkpoints" / "3")
  with pytest.raises(store.Damaged, match="it holds step 2"):
    record.read_record(folder / "checkpoints" / "3")
  assert tiny.restore(folder).step == 1


def test_a_parameter_is_compared_with_its_digest(good):
  step = good / "checkpoints" / "2"
  written = streamed.read_json(step, "data")["digests"]["params/llm/bias"]
  np.testing.assert_array_equal(
    streamed.read_parameter(step, "llm/bias", written), tiny.params(2)["llm"]["bias"]
  )
  other = streamed.read_json(good / "checkpoints" / "1", "data")["digests"]["params/llm/bias"]
  with pytest.raises(ValueError, match=r"llm/bias of .* \(its digest differs\)"):
    streamed.read_parameter(step, "llm/bias", other)


@pytest.mark.parametrize(
  "changes",
  [
    {"params/b": None},
    {"params/c": np.zeros(3, np.float32)},
    {"params/b": None, "params/c": np.zeros(3, np.float32)},
    {"params/b": np.zeros((3, 1), np.float32)},
    {"params/b": np.zeros(3, np.int32)},
  ],
  ids=str,
)
def test_a_list_of_other_arrays_is_damage(changes):
  leaves = {"params/a": np.zeros(2, np.float32), "params/b": np.zeros(3, np.float32)}
  digests = {path: digest.digest_text(x.dtype, x.shape, 5) for path, x in leaves.items()}
  written = dict(format=2, digests=digests)
  record.check_leaves(written, leaves)
  changed = {path: x for path, x in (leaves | changes).items() if x is not None}
  with pytest.raises(store.Damaged, match="not what was written"):
    record.check_leaves(written, changed)


def test_a_wrong_row_is_not_saved(tmp_path):
  with store.Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match="Row 9 does not fit step 2"):
      checkpoints.save(tiny.train_state(2, 2), 9, "plan", CONFIG)


def test_rows_are_counted_on_with_another_batch(tmp_path):
  """config.batch changes from 4 to 6 at step 2, where the row is 8: the next batch begins at 6."""
  save(tmp_path, 1, 2)
  like = tiny.shapes(tiny.train_state())
  with store.Checkpoints(tmp_path, 0) as checkpoints:
    assert checkpoints.restore(like).row == 8
    checkpoints.save(tiny.train_state(4, 4), 18, "plan", CONFIG | dict(batch=6))
  with store.Checkpoints(tmp_path, 0) as checkpoints:
    assert checkpoints.restore(like).row == 18
    checkpoints.save(tiny.train_state(5, 5), 24, "plan", CONFIG | dict(batch=6))
  assert tiny.restore(tmp_path).row == 24


def test_another_dtype_is_an_error_not_damage(tmp_path):
  save(tmp_path, 1)
  like = tiny.train_state()
  like.params["frozen"]["kernel"] = like.params["frozen"]["kernel"].astype(np.float32)
  with pytest.raises(ValueError, match=r"params/frozen/kernel is bfloat16 .* but float32"):
    tiny.restore(tmp_path, like)
  assert tiny.restore(tmp_path).step == 1


def test_digests_do_not_depend_on_the_mesh(tmp_path):
  """The record of a state on one device, and spread over eight, is the same to the byte."""
  made = tiny.train_state(1, 1)
  mesh = jax.make_mesh((8,), ("x",))
  for name, axis in (("whole", None), ("cut", "x")):
    placed = jax.tree.map(
      lambda x, axis=axis: jax.device_put(
        x,
        jax.NamedSharding(
          mesh, jax.P(*([None] * (x.ndim - 1) + [axis] if x.ndim and x.shape[-1] == 3000 else []))
        ),
      ),
      made,
    )
    with store.Checkpoints(tmp_path / name) as checkpoints:
      checkpoints.save(placed, 4, "plan", CONFIG)
  records = [
    (tmp_path / name / "checkpoints" / "1" / "data" / "metadata").read_bytes()
    for name in ("whole", "cut")
  ]
  assert records[0] == records[1]
