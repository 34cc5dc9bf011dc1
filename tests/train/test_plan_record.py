# SPDX-License-Identifier: Apache-2.0
"""A refused resume names what changed since the checkpoint."""

import importlib
import importlib.metadata

import jax
import pytest

from filax.checkpoint import store
from filax.testing import row_source
from filax.train import plan_record, setup

BEFORE = {
  "manifests": {"1. a.json": "all of 12ab"},
  "media": {f"v{n}.mp4": "frames=20 duration=2.0" for n in range(9)},
  "plan": {"rows": "one"},
}


def restored(fingerprint):
  return store.Restored(None, 3, 24, fingerprint, {})


def parts(ingredients, **changes):
  config = row_source.tiny_train_config(**changes).to_dict()
  return plan_record.plan_parts(config, 4, "new", ingredients)


def refused(workdir, now):
  with pytest.raises(ValueError) as error:
    setup.check_plan(
      restored("old"),
      "new",
      False,
      lambda fingerprint: plan_record.describe_changes(workdir, now, fingerprint),
    )
  return str(error.value)


def test_files_and_settings_that_changed_are_named(tmp_path):
  plan_record.write_plan(tmp_path, "old", parts(BEFORE))
  media = BEFORE["media"] | {"v3.mp4": "frames=40 duration=4.0"}
  text = refused(tmp_path, parts(BEFORE | {"media": media}))
  assert "media: v3.mp4 (was frames=20 duration=2.0, is frames=40 duration=4.0)." in text
  text = refused(
    tmp_path,
    parts(
      BEFORE | {"manifests": {"1. a.json": "all of 34cd"}},
      steps=9,
      log_every=3,
      **{"data.system": "Be brief."},
    ),
  )
  assert "config.data.system (was 'You are a helpful assistant.', is 'Be brief.')" in text
  assert "manifests: 1. a.json (was all of 12ab, is all of 34cd)" in text
  assert "config.steps" not in text and "config.log_every" not in text
  assert "plan:" not in text and "software:" not in text


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_without_a_record_the_refusal_is_general(tmp_path, content):
  if content is not None:
    (tmp_path / plan_record.NAME).write_bytes(content)
  assert "samples, order or packing changed" in refused(tmp_path, parts(BEFORE))
  assert plan_record.read_plan(tmp_path)["media"] is None


def test_a_record_of_another_plan_says_nothing(tmp_path):
  plan_record.write_plan(tmp_path, "older", parts(BEFORE))
  assert "samples, order or packing changed" in refused(tmp_path, parts({}))


def test_hosts_may_differ_in_what_decides_no_plan():
  own = {"data.threads": 7, "data.workers": 3, "data.cache": "/ssd", "data.root": "/mnt/b"}
  assert parts(BEFORE, **own) == parts(BEFORE)
  assert parts(BEFORE, seed=1) != parts(BEFORE)


def test_software_names_every_file():
  software = plan_record.software()
  assert {"jax", "numpy", "filax/train/plan_record.py", "data_pipelines/loader.py"} <= set(software)
  assert software["optax"] == importlib.metadata.version("optax")


def test_a_component_of_the_user_is_compared_by_its_source(tmp_path, monkeypatch):
  file = tmp_path / "my_lab_of_two_hosts.py"
  file.write_text("class Merger: ...\n")
  monkeypatch.syspath_prepend(tmp_path)
  importlib.import_module("my_lab_of_two_hosts")
  config = {"model": {"merger": {"name": "my_lab_of_two_hosts:Merger"}, "llm": {"name": "qwen2"}}}
  before = plan_record.user_components(config)
  file.write_text("class Merger: pass\n")
  assert list(before) == ["config.model.merger.name (my_lab_of_two_hosts)"]
  assert plan_record.user_components(config) != before


def test_flags_of_one_host_are_compared_if_they_change_the_step(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/host7 --xla_gpu_autotune_level=0")
  software = parts({})["software"]
  assert software["XLA_FLAGS"] == "--xla_gpu_autotune_level=0"
  before = jax.config.jax_default_matmul_precision
  jax.config.update("jax_default_matmul_precision", "highest")
  try:
    assert parts({})["software"]["jax_default_matmul_precision"] == "'highest'"
  finally:
    jax.config.update("jax_default_matmul_precision", before)
