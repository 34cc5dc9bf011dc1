# SPDX-License-Identifier: Apache-2.0
import errno
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from filax.checkpoint import orbax_items, record, store
from filax.train import optim, state

pytestmark = [
  pytest.mark.slow,
  # What TensorStore leaves behind when its files are broken.
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CONFIG = dict(
  rates=(("^frozen/", 0.0), ("", 1e-3)),
  decay=(("", 0.0),),
  warmup=0.0,
  final=0.0,
  b1=0.9,
  b2=0.999,
  eps=1e-8,
  clip=1.0,
)


def params(seed=0, width=6):
  rng = np.random.default_rng(seed)
  return {
    "frozen": {"kernel": jnp.asarray(rng.normal(size=(4, width)), jnp.bfloat16)},
    "llm": {
      "kernel": jnp.asarray(rng.normal(size=(width, 3000)), jnp.float32),
      "bias": jnp.asarray(rng.normal(size=(width,)), jnp.float32),
    },
  }


def train_state(seed=0, step=0, width=6):
  optimizer = optim.make_optimizer(CONFIG, params(seed, width), steps=10)
  made = state.create_state(params(seed, width), optimizer, seed)
  opt = jax.tree.map(lambda x: x + jnp.asarray(seed, x.dtype), made.opt)
  return made.replace(step=jnp.int32(step), opt=opt)


def shapes(made):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), made)


def equal(a, b):
  a, b = (jax.tree.leaves_with_path(x) for x in (a, b))
  assert [p for p, _ in a] == [p for p, _ in b]
  for (path, x), (_, y) in zip(a, b, strict=True):
    assert x.dtype == y.dtype, path
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=str(path))


def write(folder, *steps, keep=3):
  with store.Checkpoints(folder, keep) as checkpoints:
    for step in steps:
      checkpoints.save(train_state(step, step), 10 * step, "plan", {"a": (1, 2), "b": {"c": None}})


def restore(folder, like=None):
  with store.Checkpoints(folder, 3) as checkpoints:
    return checkpoints.restore(shapes(like or train_state()))


def biggest(folder):
  files = [p for p in (folder / "state").rglob("*") if p.is_file()]
  return max(files, key=lambda p: p.stat().st_size)


def test_round_trip_is_exact_and_keeps_the_newest(tmp_path):
  write(tmp_path, 1, 2, 3, 4, keep=2)
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]
  got = restore(tmp_path)
  assert (got.step, got.row, got.fingerprint) == (4, 40, "plan")
  assert got.config == {"a": [1, 2], "b": {"c": None}}
  equal(got.state, train_state(4, 4))


def test_nothing_to_restore(tmp_path):
  assert restore(tmp_path) is None


def test_a_step_is_saved_once(tmp_path):
  with store.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(train_state(1, 1), 1, "first", {})
    checkpoints.save(train_state(1, 1), 1, "second", {})
  assert restore(tmp_path).fingerprint == "first"


def test_the_devices_may_go_on_while_it_writes(tmp_path):
  """The state is donated to the next step right after save; the files hold what was saved."""
  step = jax.jit(lambda s: jax.tree.map(lambda x: x + jnp.ones((), x.dtype), s), donate_argnums=0)
  now = train_state(1, 1)
  with store.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(now, 1, "", {})
    for _ in range(20):
      now = step(now)
  equal(restore(tmp_path).state, train_state(1, 1))


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 3] ^= 0x10
  path.write_bytes(data)


def flip_in(folder, array):
  """Turns a bit of this array over, in whichever file has it: checkpoints are not compressed."""
  content = np.asarray(array).tobytes()
  found = [path for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]
  assert found
  for path in found:
    data = bytearray(path.read_bytes())
    data[data.find(content) + 100] ^= 0x10
    path.write_bytes(data)


def blank(path):
  data = bytearray(path.read_bytes())
  data[1000:3000] = bytes(2000)
  path.write_bytes(data)


@pytest.mark.parametrize(
  "damage",
  [
    lambda step: truncate(biggest(step)),
    lambda step: flip(biggest(step)),  # TensorStore reads it without a word; the digest does not.
    lambda step: blank(biggest(step)),
    lambda step: biggest(step).unlink(),
    lambda step: biggest(step).write_bytes(b""),
    lambda step: (step / "state" / "_METADATA").unlink(),
    lambda step: (step / "state" / "_METADATA").write_text("{"),
    lambda step: (step / "data" / "metadata").write_text('{"row": 2'),
    lambda step: shutil.rmtree(step / "data"),
    lambda step: shutil.rmtree(step / "state"),
  ],
)
def test_a_damaged_checkpoint_is_skipped(tmp_path, capsys, damage):
  write(tmp_path, 1, 2)
  damage(tmp_path / "checkpoints" / "2")
  got = restore(tmp_path)
  assert got.step == 1
  equal(got.state, train_state(1, 1))
  said = capsys.readouterr().err
  assert "Skipping" in said and "checkpoints/2" in said
  assert (tmp_path / "checkpoints" / "2.damaged").exists()
  write(tmp_path, 2)  # The step can be written again.
  assert restore(tmp_path).step == 2


def test_a_step_may_be_damaged_again_and_again(tmp_path):
  """A storage that goes on returning other bits never keeps a run from starting."""
  write(tmp_path, 1)
  for _ in range(3):
    write(tmp_path, 2)
    (tmp_path / "checkpoints" / "2" / "data" / "metadata").write_text("{")
    assert restore(tmp_path).step == 1
  names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
  assert names == ["1", "2.damaged", "2.damaged-2", "2.damaged-3"]


@pytest.mark.parametrize(
  "error",
  [
    PermissionError(errno.EACCES, "Permission denied", "checkpoints/4/data/metadata"),
    ValueError("Error opening checkpoints/4/state/d/1 [os_error_code='24']"),
  ],
)
def test_what_this_process_cannot_read_is_no_damage(error):
  """A damaged checkpoint is renamed; one of another user, or beyond `ulimit -n`, is whole."""
  with pytest.raises(record.Unreadable, match=r"checkpoints/4/.* It may be whole"):
    with record.damage("its list of arrays cannot be read"):
      raise error


def test_a_half_written_checkpoint_is_skipped(tmp_path, capsys):
  write(tmp_path, 1, 2)
  folder = tmp_path / "checkpoints"
  (folder / "2").rename(folder / "2.orbax-checkpoint-tmp")
  assert restore(tmp_path).step == 1
  assert "half-written" in capsys.readouterr().err
  assert not (folder / "2.orbax-checkpoint-tmp").exists()


def test_a_step_that_was_cut_off_in_a_bucket_is_removed(tmp_path, monkeypatch, capsys):
  """In Google Cloud Storage it has its final name already; one that was copied has a record."""
  write(tmp_path, 1, 2, 3)
  folder = tmp_path / "checkpoints"
  last_file = "commit_success.txt"
  (folder / "2" / last_file).unlink()
  (folder / "3" / last_file).unlink()
  (folder / "3" / "data" / "metadata").unlink()
  monkeypatch.setattr(orbax_items, "_is_complete", lambda step: (step / last_file).exists())
  assert restore(tmp_path).step == 2
  assert "3: half-written when a run was stopped." in capsys.readouterr().err
  assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_a_step_in_google_cloud_storage_is_complete_with_its_last_file(tmp_path):
  class Step:
    """A folder that is there from its first file on."""

    def __str__(self):
      return "gs://bucket/run/checkpoints/3"

    def __truediv__(self, name):
      return tmp_path / name

    def exists(self):
      return True

  assert not orbax_items._is_complete(Step())
  (tmp_path / "commit_success.txt").touch()
  assert orbax_items._is_complete(Step())


def test_another_model_is_an_error_not_damage(tmp_path):
  write(tmp_path, 1)
  with pytest.raises(ValueError, match=r"params/llm/.* has shape .*6.* but .*7.* config\.model"):
    restore(tmp_path, train_state(width=7))
  assert restore(tmp_path).step == 1


def test_other_trained_parts_are_an_error(tmp_path):
  write(tmp_path, 1)
  everything = CONFIG | dict(rates=(("", 1e-3),))
  other = state.create_state(params(), optim.make_optimizer(everything, params(), 10), 0)
  with pytest.raises(ValueError, match=r"it has no opt/\d/mu/frozen/kernel"):
    restore(tmp_path, other)
  with store.Checkpoints(tmp_path / "more") as checkpoints:
    checkpoints.save(other, 0, "plan", CONFIG)
  with pytest.raises(ValueError, match=r"it has opt/\d/\w+/frozen/kernel too much"):
    restore(tmp_path / "more")


def test_a_newer_format_is_refused(tmp_path):
  write(tmp_path, 1)
  path = tmp_path / "checkpoints" / "1" / "data" / "metadata"
  newer = json.loads(path.read_text()) | {"format": record.FORMAT_WITH_BASE + 1}
  path.write_text(json.dumps(newer))
  for read in (restore, store.restore_params):
    with pytest.raises(ValueError, match="newer FiLax"):
      read(tmp_path)


def test_params_alone(tmp_path, capsys):
  write(tmp_path, 1, 2)
  for path in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "2"):
    got, missing, extra = store.restore_params(path)
    equal(got, params(2))
    assert missing == extra == []
    assert store.read_config(path)["a"] == [1, 2]
  flip_in(tmp_path / "checkpoints" / "2", params(2)["llm"]["kernel"])
  equal(store.restore_params(tmp_path)[0], params(1))
  assert "Skipping" in capsys.readouterr().err
  with pytest.raises(OSError, match="No readable checkpoint"):
    store.restore_params(tmp_path / "checkpoints" / "2")


def test_params_into_another_tree(tmp_path):
  write(tmp_path, 1)

  def half(x):
    return jax.ShapeDtypeStruct(x.shape, jnp.bfloat16)

  like = jax.tree.map(half, params())
  like["merger"] = {"weight": jax.ShapeDtypeStruct((3,), jnp.float32)}
  del like["frozen"]
  got, missing, extra = store.restore_params(tmp_path, like)
  assert (missing, extra) == (["merger/weight"], ["frozen/kernel"])
  equal(got["llm"], jax.tree.map(lambda x: x.astype(jnp.bfloat16), params(1)["llm"]))
  like["llm"]["bias"] = jax.ShapeDtypeStruct((9,), jnp.float32)
  with pytest.raises(ValueError, match=r"llm/bias has shape \(6,\) .* \(9,\)"):
    store.restore_params(tmp_path, like)


def test_no_checkpoint(tmp_path):
  for read in (store.restore_params, store.read_config):
    with pytest.raises(OSError, match="No readable checkpoint"):
      read(tmp_path / "nowhere")


def test_save_params(tmp_path):
  path = store.save_params(tmp_path, params(3), {"model": {}})
  assert path == tmp_path / "checkpoints" / "0"
  got, missing, _ = store.restore_params(tmp_path)
  equal(got, params(3))
  assert not missing and store.read_config(tmp_path) == {"model": {}}


def test_digest_sees_a_bit_and_an_exchange():
  x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)

  def one(a):
    return int(store.digests(jnp.asarray(a)))

  flipped = x.copy()
  flipped.view(np.uint32)[4, 6] ^= 1
  assert len({one(x), one(flipped), one(x[::-1].copy()), one(x.T.copy())}) == 4
  assert one(x) == one(x.copy())


def test_restores_onto_another_mesh(tmp_path):
  made = train_state(1, 1)

  def spread(mesh):
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
        x.shape,
        x.dtype,
        sharding=jax.NamedSharding(
          mesh, jax.P(*([None] * (x.ndim - 1) + ["x"] if x.ndim and not x.shape[-1] % 8 else []))
        ),
      ),
      made,
    )

  for ways in (8, 2):
    mesh = jax.make_mesh((ways,), ("x",), devices=jax.devices()[:ways])
    like = spread(mesh)
    if ways == 8:
      with store.Checkpoints(tmp_path) as checkpoints:
        placed = jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), made, like)
        checkpoints.save(placed, 1, "", {})
    with store.Checkpoints(tmp_path) as checkpoints:
      got = checkpoints.restore(like)
    equal(got.state, made)
    assert got.state.params["llm"]["kernel"].sharding.mesh.size == ways


def test_the_folder_is_plain(tmp_path):
  write(tmp_path, 1)
  names = {p.name for p in pathlib.Path(tmp_path / "checkpoints" / "1").iterdir()}
  assert {"state", "data", "config"} <= names
