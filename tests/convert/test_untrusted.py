# SPDX-License-Identifier: Apache-2.0
"""Folders that somebody else made: no code of theirs is imported, no file elsewhere is read."""

import json
import os
import socket
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as library

import filax
from filax.checkpoint import store
from filax.cli import main as command
from filax.convert import ConversionError, config_in, torch_files
from filax.models import components
from filax.testing import qwen2_folder, tiny_checkpoint


@pytest.fixture
def trap(tmp_path, monkeypatch):
  """A package that leaves a file when it is imported."""
  package = tmp_path / "packages" / "my_lab"
  package.mkdir(parents=True)
  (package / "__init__.py").write_text("")
  (package / "scenes.py").write_text(
    f"open({str(tmp_path / 'imported')!r}, 'w').close()\n"
    "from filax.models.selectors.uniform import Model\n"
  )
  monkeypatch.syspath_prepend(package.parent)
  yield tmp_path / "imported"
  for name in [name for name in sys.modules if name.split(".")[0] == "my_lab"]:
    del sys.modules[name]


def foreign(tmp_path, name="my_lab.scenes:Model", where="infer"):
  """A checkpoint whose config names a module."""
  config = tiny_checkpoint.tiny_config()
  params = tiny_checkpoint.tiny_parameters(config)
  if where == "infer":
    config["infer"]["selector"] = dict(name=name, size=3)
  else:
    config["model"]["selector"] = dict(name=name, size=3)
  store.save_params(tmp_path / "run", params, config)
  return tmp_path / "run"


def fails(capsys, *argv) -> str:
  assert command.main([str(word) for word in argv]) == 2
  err = capsys.readouterr().err
  assert err.count("\n") == 1 and "Traceback" not in err
  return err


@pytest.mark.parametrize("where", ["infer", "model"])
def test_a_checkpoint_imports_nothing(where, trap, tmp_path, capsys):
  run = foreign(tmp_path, where=where)
  with pytest.raises(ValueError, match="allow it with --components my_lab"):
    filax.load(run)
  words = ["convert", "to", "--checkpoint", run, "--format", "hf", "--out", tmp_path / "out"]
  assert "my_lab.scenes:Model" in fails(capsys, *words)
  assert not trap.exists()


def test_a_module_that_the_user_names_is_imported(trap, tmp_path, monkeypatch):
  run = foreign(tmp_path)
  monkeypatch.chdir(tmp_path)  # No tokenizer of another run is found by a relative name.
  with pytest.raises(ValueError, match="has no tokenizer beside it"):  # The next thing to be read.
    filax.load(run, components=["my_lab"])
  assert trap.exists()


def test_a_config_json_imports_nothing(trap, tmp_path, capsys):
  own = dict(model=dict(llm=dict(name="my_lab.scenes:Model")))
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", fila_config=own)
  said = fails(capsys, "convert", "from", "--source", source, "--out", tmp_path / "run")
  assert "my_lab.scenes:Model" in said and "--components my_lab" in said
  assert not trap.exists()
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "name",
  [
    "os:system",
    "my_lab:Model",
    "my_lab.scenes",
    "../x",
    "/x",
    "..",
    "kmeans:",
    ":Model",
    "Kmeans",
    "",
    5,
    None,
    ["kmeans"],
    {"a": 1},
    "kme\nans",
    "a b",
  ],
)
@pytest.mark.parametrize("allowed", [(), ("lab", "my", "my_lab2")])
def test_names_that_are_not_ours_are_refused(name, allowed):
  config = dict(model=dict(encoder=dict(name="siglip"), selector=dict(name=name)))
  with pytest.raises(ValueError, match="names the selector"):
    components.check_components(config, allowed)


def test_names_that_are_ours_or_allowed_pass():
  for name in ("kmeans", "my_lab:Model", "my_lab.a.b:Model"):
    components.check_components(dict(infer=dict(selector=dict(name=name))), ["my_lab"])
  components.check_components(dict(infer=dict(selector=dict(name="my_lab:Model"))), "my_lab")
  components.check_components(tiny_checkpoint.tiny_config())


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("no_such_lab.x:Model", "cannot be imported"),
    ("json:Nothing", "has no class Nothing"),
    ("json:loads", "names no flax module"),
    ("..x:Model", "is no"),
    (":Model", "is no"),
    ("kmeanz", "No file models/selectors/kmeanz.py"),
    (7, "is not a name"),
    ("os.path", "No file"),
  ],
)
def test_a_component_that_cannot_be_is_one_sentence(name, message):
  with pytest.raises(ValueError, match=message):
    components.build("selector", dict(name=name))


@pytest.mark.parametrize(
  "config",
  [
    {},
    dict(model={}),
    dict(model=dict(llm=5)),
    dict(model=dict(llm=dict(name="qwen2"))),
    dict(model=5, infer={}, data={}),
    dict(model={}, infer=dict(selector={}), data={}),
  ],
)
def test_a_config_that_is_incomplete_is_one_sentence(config, tmp_path):
  store.save_params(tmp_path / "run", {"a": jnp.zeros(2)}, config)
  with pytest.raises(ValueError):
    filax.load(tmp_path / "run")


@pytest.mark.parametrize(
  "changes",
  [
    dict(model_type=5),
    dict(model_type="llava_onevision"),
    dict(fila_config=5),
    dict(fila_config=dict(model=5)),
    dict(hidden_size="x"),
    dict(rope_scaling=[1]),
    dict(num_attention_heads=0, head_dim=None),
    dict(rms_norm_eps=-1.0),
    dict(rope_theta=0.0, rope_parameters=None),
    dict(max_position_embeddings=0),
    dict(hidden_size=10**30),
    dict(num_hidden_layers=10**9),
    dict(tie_word_embeddings="false"),
    dict(rope_parameters=dict(rope_type="yarn", rope_theta=1e6, factor=-1.0)),
    dict(rope_parameters=dict(rope_type="yarn", original_max_position_embeddings="x")),
    dict(model_type="videochat_flash", mm_vision_tower=5),
    dict(fila_config=dict(model=dict(llm=dict(name="qwen2", width="x")))),
  ],
)
def test_a_config_json_of_wrong_types_is_one_sentence(changes, tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", **changes)
  fails(capsys, "convert", "from", "--source", source, "--out", tmp_path / "run")


def index(folder, **files):
  (folder / "model.safetensors.index.json").write_text(json.dumps(dict(weight_map=files)))
  return folder


@pytest.mark.parametrize(
  "name",
  [
    "../elsewhere.safetensors",
    "/etc/passwd",
    "a/../../elsewhere.safetensors",
    "",
    ".",
    "link.safetensors",
    "folder/elsewhere.safetensors",
    "nul\0.safetensors",
  ],
)
def test_an_index_stays_in_its_folder(name, tmp_path):
  folder = tmp_path / "hub"
  folder.mkdir()
  library.save_file({"a": np.zeros(2, np.float32)}, tmp_path / "elsewhere.safetensors")
  (folder / "link.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
  (folder / "folder").symlink_to(tmp_path)
  with pytest.raises(ConversionError):
    torch_files.open_tensors(index(folder, a=name))


def test_links_of_the_hub_cache_and_folders_inside_are_read(tmp_path):
  folder = tmp_path / "models--x" / "snapshots" / "abc"
  (folder / "shards").mkdir(parents=True)
  (tmp_path / "models--x" / "blobs").mkdir()
  blob = tmp_path / "models--x" / "blobs" / "123"
  library.save_file({"a": np.zeros(2, np.float32)}, blob)
  library.save_file({"b": np.zeros(2, np.float32)}, folder / "shards" / "b.safetensors")
  (folder / "a.safetensors").symlink_to(os.path.join("..", "..", "blobs", "123"))
  read = torch_files.open_tensors(index(folder, a="a.safetensors", b="shards/b.safetensors"))
  assert sorted(read) == ["a", "b"]


def special(path, kind):
  if kind == "pipe":
    os.mkfifo(path)
  elif kind == "socket":
    with socket.socket(socket.AF_UNIX) as server:
      os.chdir(path.parent)  # Names of sockets are short.
      server.bind(path.name)
  else:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize(
  "name", ["model.safetensors", "model.safetensors.index.json", "config.json", "pytorch_model.bin"]
)
def test_what_is_no_file_is_refused_at_once(kind, name, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  if name != "config.json":  # Nothing is read beside model.safetensors.
    (source / "model.safetensors").unlink()
  (source / name).unlink(missing_ok=True)
  special(source / name, kind)
  said = fails(capsys, "convert", "from", "--source", source, "--out", tmp_path / "run")
  assert f"is a {kind}, not a file" in said


@pytest.mark.parametrize("item", ["config/metadata", "data/metadata", "state/_METADATA"])
def test_a_pipe_in_a_checkpoint_is_refused_at_once(item, tmp_path, capsys):
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  file = tmp_path / "run" / "checkpoints" / "0" / item
  file.unlink(missing_ok=True)
  os.mkfifo(file)
  with pytest.raises(ValueError, match="is a pipe, not a file"):
    filax.load(run)
  words = ["convert", "to", "--checkpoint", run, "--out", tmp_path / "out"]
  assert "is a pipe, not a file" in fails(capsys, *words)


def written(folder, header: bytes, size=64, length=None):
  folder.mkdir()
  length = len(header) if length is None else length
  (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header + bytes(size))
  return folder


def entry(*offsets, dtype="F32", shape=(4,)) -> dict:
  return dict(dtype=dtype, shape=shape, data_offsets=offsets)


@pytest.mark.parametrize(
  ("entries", "message"),
  [
    (dict(a=entry(0, 16), b=entry(0, 16)), "b overlaps a"),
    (dict(a=entry(0, 16), b=entry(8, 24)), "b overlaps a"),
    (dict(a=entry(0, 32, shape=(8,)), b=entry(4, 8, shape=(1,)), c=entry(40, 56)), "b overlaps a"),
    (dict(a=entry(0, 16, dtype="I32"), b=entry(15, 31, dtype="I32")), "b overlaps a"),
    (dict(a=entry(64, 80)), "is cut short"),
    (dict(a=entry(0, 10**15, shape=(25 * 10**13,))), "cut"),
    (dict(a=entry(-16, 0)), "no readable"),
    (dict(a=entry(16, 0)), "no readable"),
    (dict(a=entry(0.0, 16.0)), "no readable"),
    (dict(a=entry("0", "16")), "no readable"),
    (dict(a=entry(False, 16)), "no readable"),
    (dict(a=entry(0, 16, shape=(-2, -2))), "no readable"),
    (dict(a=entry(0, 8, 16)), "no readable"),
    (dict(a=entry(0, 16, shape="4")), "no readable"),
    (dict(a=5), "no readable"),
    ([], "no readable"),
  ],
)
def test_a_header_that_lies_is_refused(entries, message, tmp_path):
  with pytest.raises(ConversionError, match=message):
    torch_files.open_tensors(written(tmp_path / "hub", json.dumps(entries).encode()))


def test_tensors_side_by_side_and_empty_ones_are_read(tmp_path):
  entries = dict(a=entry(0, 16), b=entry(16, 32), c=entry(16, 16, shape=(0,)), d=entry(48, 64))
  assert len(torch_files.open_tensors(written(tmp_path / "hub", json.dumps(entries).encode()))) == 4


@pytest.mark.parametrize(
  ("header", "message"),
  [
    (
      b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
      b'"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}',
      "names a twice",
    ),
    (b'{"a":' * 200_000, "no readable"),
    (b"[" * 200_000, "nested too deep"),
    (b"\xff\xfe", "no readable"),
  ],
)
def test_a_header_that_is_no_plain_json_is_refused(header, message, tmp_path):
  with pytest.raises(ConversionError, match=message):
    torch_files.open_tensors(written(tmp_path / "hub", header))


def test_a_gigantic_header_is_refused_unread(tmp_path):
  folder = written(tmp_path / "hub", b"{}", length=10**9)
  os.truncate(folder / "model.safetensors", 2 * 10**9)  # A hole: it takes no space.
  with pytest.raises(ConversionError, match="header of 1,000,000,000 bytes"):
    torch_files.open_tensors(folder)


def test_an_index_that_names_a_tensor_twice_is_refused(tmp_path):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  (source / "model.safetensors").rename(source / "model-1.safetensors")
  (source / "model.safetensors.index.json").write_text(
    '{"weight_map": {"a": "model-1.safetensors", "a": "other.safetensors"}}'
  )
  with pytest.raises(ConversionError, match="names a twice"):
    torch_files.open_tensors(source)


RELEASED = dict(
  model_type="videochat_flash_qwen",
  mm_vision_tower="umt-hd-large",
  mm_hidden_size=1024,
  mm_projector_type="tome16_mlp_hd64",
  mm_vision_select_layer=-2,
  mm_local_num_frames=4,
  mm_vision_select_feature="patch",
  mm_pos_num_frames=8,
  vision_encode_type="video_image",
  mm_patch_merge_type="spatial_nopad",
  mm_newline_position="nothing",
  frame_aspect_ratio="square",
  frame_grid_pinpoints=None,
  image_aspect_ratio="anyres_nopad",
  max_num_pixels=14_745_600_000,
  tokenizer_model_max_length=32_768,
  mm_use_im_start_end=False,
  mm_use_im_patch_token=False,
  mm_llm_compress=False,
  llm_compress_type="attention",
  llm_compress_layer_list=[24],
  llm_image_token_ratio_list=[1.0, 0.5],
  mm_projector_lr=None,
  use_pos_skipping=False,
  pos_skipping_range=4096,
  vision_tower_pretrained=None,
  mm_num_compress_latents=128,
)


def released(**changes):
  return config_in.architecture(qwen2_folder.CONFIG | RELEASED | changes)


def test_the_released_config_is_understood():
  model = released()
  assert model["encoder"] == dict(name="umt", variant="L-448")
  assert model["selector"] == dict(name="clips", size=4)
  assert model["merger"] == dict(name="tome", tokens=16)


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("mm_local_num_frames", 8),
    ("vision_encode_type", "image"),
    ("vision_encode_type", "video"),
    ("frame_aspect_ratio", "anyres"),
    ("mm_newline_position", "frame"),
    ("mm_newline_position", "one_token"),
    ("use_pos_skipping", True),
    ("mm_vision_select_layer", -1),
    ("mm_vision_select_feature", "cls_patch"),
    ("mm_patch_merge_type", "spatial_unpad"),
    ("image_aspect_ratio", "pad"),
    ("mm_use_im_start_end", True),
    ("mm_use_im_patch_token", True),
    ("mm_projector_type", "tome16_mlp"),
    ("mm_projector_type", "xtome16_mlp_hd64"),
  ],
)
def test_a_released_setting_is_refused_by_name(key, value):
  with pytest.raises(ValueError, match=f"{key}={value!r}"):
    released(**{key: value})


def test_all_settings_that_are_refused_are_named_at_once():
  with pytest.raises(ValueError, match=r"mm_local_num_frames=8.*frame_aspect_ratio='anyres'"):
    released(mm_local_num_frames=8, frame_aspect_ratio="anyres")


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("mm_spatial_pool_mode", "average"),
    ("mm_spatial_pool_stride", 4),
    ("mm_projector_type", "linear"),
    ("mm_patch_merge_type", "spatial"),
    ("mm_vision_select_layer", -1),
    ("use_pos_skipping", True),
    ("add_faster_video", True),
  ],
)
def test_a_setting_of_llava_is_refused_by_name(key, value):
  config = qwen2_folder.CONFIG | dict(model_type="llava_qwen", mm_vision_tower="a/tower")
  assert config_in.architecture(config)["projector"]["pool_side"] == 2
  with pytest.raises(ValueError, match=f"{key}={value!r}"):
    config_in.architecture(config | {key: value})


@pytest.mark.parametrize(
  ("rope", "message"),
  [
    (dict(rope_type="linear", factor=2.0), "rope of type 'linear'"),
    (dict(type="dynamic", factor=2.0), "rope of type 'dynamic'"),
    (dict(rope_type="llama3", factor=2.0), "rope of type 'llama3'"),
    (dict(rope_type="longrope", factor=2.0), "rope of type 'longrope'"),
    (dict(rope_type="default", mrope_section=[1, 2]), "mrope_section"),
    (dict(rope_type="yarn", factor=2.0, partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
    (dict(rope_type="yarn", factor=2.0, beta=3), "beta=3"),
    (dict(rope_type="yarn", factor=2.0, beta_fast="x"), "beta_fast='x'"),
  ],
)
def test_rotary_positions_that_are_not_implemented_are_named(rope, message):
  with pytest.raises(ValueError, match=message):
    config_in.architecture(qwen2_folder.CONFIG | dict(rope_scaling=rope))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(name, tmp_path):
  file = tmp_path / name
  file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
  with pytest.raises(ConversionError, match=f"{name} is a pointer of Git LFS.*git lfs pull"):
    torch_files.open_tensors(file)
