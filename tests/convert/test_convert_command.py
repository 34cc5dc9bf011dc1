# SPDX-License-Identifier: Apache-2.0
"""`filax convert` from end to end on small files, and what it says of bad ones: one sentence, exit
code 2, nothing left behind."""

import json
import pathlib
import re
import shlex
import struct
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as library

from data_pipelines.text import tokenizers
from filax.checkpoint import store
from filax.cli import main as command
from filax.convert import output_folder
from filax.testing import interrupted, qwen2_folder

pytestmark = pytest.mark.slow


def run(*argv):
  return command.main(["convert", *map(str, argv)])


def refused(capsys, out, *argv) -> str:
  """What a failing conversion says; checks that it left nothing."""
  assert run(*argv, "--out", out) == 2
  said = capsys.readouterr().err
  assert said.startswith("filax convert: ") and said.count("\n") == 1
  assert "Traceback" not in said
  assert not out.exists() and not list(out.parent.glob("*.tmp"))
  return said


def test_there_and_back(tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  assert run("from", "--source", source, "--out", tmp_path / "run") == 0
  assert "27 tensors" in capsys.readouterr().out
  assert (
    run(
      "to",
      "--checkpoint",
      tmp_path / "run",
      "--format",
      "qwen2",
      "--out",
      tmp_path / "out",
      "--shard-gb",
      "2e-6",
    )
    == 0
  )
  files = sorted((tmp_path / "out").glob("*.safetensors"))
  assert len(files) > 2
  found = {}
  for file in files:
    found |= library.load_file(file)
  expected = qwen2_folder.qwen2_tensors()
  assert found.keys() == expected.keys()
  for name, x in expected.items():
    np.testing.assert_array_equal(x, found[name])
  said = [json.loads((tmp_path / d / "conversion_report.json").read_text()) for d in ("run", "out")]
  hashes = [{t["name"]: t["sha256"] for t in report["tensors"]} for report in said]
  assert hashes[0] == hashes[1] and len(hashes[0]) == 27
  assert said[0]["counts"] == dict(
    consumed=27, unused_by_design=0, left_over=0, missing=0, drawn_anew=0
  )
  assert said[0]["tensors"][0]["dtype"] == "float32" and said[0]["peak_memory_bytes"] > 0


def test_bfloat16_is_read_without_torch_and_written(tmp_path):
  source = qwen2_folder.write_qwen2_folder(
    tmp_path / "hub", qwen2_folder.qwen2_tensors(dtype=ml_dtypes.bfloat16)
  )
  code = (
    "import sys; sys.modules['torch'] = None\n"
    "from filax.cli.main import main\n"
    f"sys.exit(main(['convert', 'from', '--source', r'{source}', '--out', r'{tmp_path / 'run'}']))"
  )
  subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
  params, _, _ = store.restore_params(tmp_path / "run")
  assert params["llm"]["norm"]["scale"].dtype == ml_dtypes.bfloat16
  assert run("from", "--source", source, "--out", tmp_path / "wide", "--dtype", "float32") == 0
  wide, _, _ = store.restore_params(tmp_path / "wide")
  assert wide["llm"]["norm"]["scale"].dtype == np.float32


def test_padding_rows_are_zero(tmp_path):
  assert (
    run(
      "from",
      "--source",
      qwen2_folder.write_qwen2_folder(tmp_path / "hub"),
      "--out",
      tmp_path / "run",
    )
    == 0
  )
  params, _, _ = store.restore_params(tmp_path / "run")
  table = np.asarray(params["llm"]["embed_tokens"]["embedding"])
  assert table.shape[0] == 512 and not table[qwen2_folder.VOCAB :].any()


def test_more_rows_than_the_config_says_are_taken(tmp_path):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", qwen2_folder.qwen2_tensors(vocab=44))
  assert run("from", "--source", source, "--out", tmp_path / "run") == 0
  assert store.read_config(tmp_path / "run")["model"]["llm"]["vocab"] == 44


def test_an_existing_folder_is_kept(tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "mine").write_text("x")
  assert run("from", "--source", source, "--out", tmp_path / "run") == 2
  assert "exists already" in capsys.readouterr().err
  assert (tmp_path / "run" / "mine").read_text() == "x"


def test_all_that_does_not_fit_is_said_at_once(tmp_path, capsys):
  tensors = qwen2_folder.qwen2_tensors()
  del tensors["model.norm.weight"]
  tensors["model.layers.0.mlp.up_proj.weight"] = np.zeros((5, 5), np.float32)
  tensors["model.layers.0.mlp.extra.weight"] = np.zeros(3, np.float32)
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", tensors)
  said = refused(capsys, tmp_path / "run", "from", "--source", source)
  assert "unknown tensors (1): model.layers.0.mlp.extra.weight" in said
  assert "missing tensors (1): llm.norm.weight" in said
  assert "model.layers.0.mlp.up_proj.weight is (5, 5), expected (24, 16)" in said


def test_a_tensor_can_be_ignored_by_name(tmp_path):
  tensors = qwen2_folder.qwen2_tensors() | {
    "model.layers.0.mlp.extra.weight": np.zeros(3, np.float32)
  }
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", tensors)
  assert (
    run("from", "--source", source, "--out", tmp_path / "run", "--ignore", r".*\.extra\..*") == 0
  )
  report = json.loads((tmp_path / "run" / "conversion_report.json").read_text())
  assert report["unused"][0]["reason"] == "ignored by --ignore"


def test_all_tensors_that_are_no_numbers_are_said(tmp_path, capsys):
  tensors = qwen2_folder.qwen2_tensors()
  tensors["model.norm.weight"][3] = np.nan
  tensors["lm_head.weight"][1, 1] = np.inf
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", tensors)
  said = refused(capsys, tmp_path / "run", "from", "--source", source)
  assert "tensors with NaN or infinity (2): lm_head.weight, model.norm.weight" in said


def test_a_checkpoint_that_is_no_number_is_not_exported(tmp_path, capsys):
  assert (
    run(
      "from",
      "--source",
      qwen2_folder.write_qwen2_folder(tmp_path / "hub"),
      "--out",
      tmp_path / "run",
    )
    == 0
  )
  params, _, _ = store.restore_params(tmp_path / "run")
  config = store.read_config(tmp_path / "run")
  params["llm"]["norm"]["scale"] = params["llm"]["norm"]["scale"].at[0].set(np.nan)
  store.save_params(tmp_path / "bad", params, config)
  said = refused(
    capsys, tmp_path / "out", "to", "--checkpoint", tmp_path / "bad", "--format", "qwen2"
  )
  assert "llm/norm/scale" in said


def with_header(folder, **changes):
  """A folder whose safetensors header says something else of one tensor (64 bytes)."""
  file = qwen2_folder.write_qwen2_folder(folder) / "model.safetensors"
  content = file.read_bytes()
  length = struct.unpack("<Q", content[:8])[0]
  header = json.loads(content[8 : 8 + length])
  header["model.norm.weight"] |= changes
  text = json.dumps(header).encode()
  file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
  return folder


@pytest.mark.parametrize(
  ("changes", "sentence"),
  [
    (dict(dtype="F8_E4M3", shape=[64]), "not plain floats (1): model.norm.weight is F8_E4M3"),
    (dict(data_offsets=[0, 4]), "model.norm.weight is (16,) F32 in 4 bytes"),
    (dict(data_offsets=[-64, 0]), "model.norm.weight is (16,) F32 in 64 bytes"),
    (dict(data_offsets=None), "model.safetensors has no readable safetensors header"),
    (dict(data_offsets=[10**9, 10**9 + 64]), "model.safetensors is cut short"),
  ],
)
def test_a_header_that_cannot_be_right(changes, sentence, tmp_path, capsys):
  source = with_header(tmp_path / "hub", **changes)
  assert sentence in refused(capsys, tmp_path / "run", "from", "--source", source)


@pytest.mark.parametrize("index", ["{oops", "{}", "[1]"])
def test_an_index_that_says_nothing(index, tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  (source / "model.safetensors").rename(source / "model-1.safetensors")
  (source / "model.safetensors.index.json").write_text(index)
  said = refused(capsys, tmp_path / "run", "from", "--source", source)
  assert "model.safetensors.index.json has no readable weight_map" in said


@pytest.mark.parametrize(
  ("argv", "sentence"),
  [
    (("--set", "llm.depth=two"), "llm.depth is 'two', but must be a number of 1 to 10000"),
    (("--set", "llm.heads=0"), "Give --set llm.heads=..."),
    (("--set", "llm.colour=1"), "takes no 'colour'"),
    (("--set", "llm"), "ROLE.FIELD=VALUE"),
    (("--set", "tree.depth=1"), "the roles are encoder"),
    (("--config", "no.py"), "no config no.py"),
    (("--encoder", "nowhere"), "no file or folder nowhere"),
  ],
)
def test_what_cannot_be_meant(argv, sentence, tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  assert sentence in refused(capsys, tmp_path / "run", "from", "--source", source, *argv)


def test_a_language_model_is_no_encoder(tmp_path, capsys):
  llm = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  said = refused(capsys, tmp_path / "run", "from", "--encoder", llm)
  assert f"--encoder {llm} holds no encoder: its config.json describes llm." in said


@pytest.mark.parametrize(
  ("argv", "sentence"),
  [
    (("from", "--ignore", "("), "( is not a regular expression"),
    (
      ("to", "--checkpoint", "x", "--shard-gb", "0"),
      "'0' cannot be used. Set it to a number above 0.",
    ),
  ],
)
def test_a_flag_that_cannot_be_read(argv, sentence, tmp_path, capsys):
  assert run(*argv, "--out", tmp_path / "out") == 2
  assert sentence in capsys.readouterr().err


def test_a_cut_shard_and_a_missing_one(tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  names = dict.fromkeys(qwen2_folder.qwen2_tensors(), "model-1.safetensors")
  names["model.norm.weight"] = "model-2.safetensors"
  (source / "model.safetensors.index.json").write_text(json.dumps(dict(weight_map=names)))
  file = (source / "model.safetensors").rename(source / "model-1.safetensors")
  file.write_bytes(file.read_bytes()[:-100])
  said = refused(capsys, tmp_path / "run", "from", "--source", source)
  assert "model-2.safetensors (named by the index)" in said and "is cut short" in said


def test_a_tokenizer_with_more_ids_than_rows(tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  tokenizers.train_sentencepiece(["a b c d"] * 3, tmp_path / "tokenizer.model", vocab_size=300)
  said = refused(
    capsys,
    tmp_path / "run",
    "from",
    "--source",
    source,
    "--tokenizer",
    tmp_path / "tokenizer.model",
  )
  assert "has 40 vocabulary rows" in said.replace("the llm ", "") and "--tokenizer" in said


def test_a_head_that_differs_from_the_embedding_it_is_tied_to(tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", tie_word_embeddings=True)
  said = refused(capsys, tmp_path / "run", "from", "--source", source)
  assert "--set llm.tied=False" in said
  assert run("from", "--source", source, "--out", tmp_path / "run", "--set", "llm.tied=False") == 0


def test_a_head_that_is_missing_is_no_tied_one(tmp_path, capsys):
  """Unless config.json does not say, and the files have none."""
  tensors = qwen2_folder.qwen2_tensors()
  del tensors["lm_head.weight"]
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", tensors)
  said = refused(capsys, tmp_path / "run", "from", "--source", source)
  assert "holds no lm_head.weight" in said and "--set llm.tied=True" in said
  for number, tie in enumerate(([], ["--set", "llm.tied=True"])):
    if not tie:
      qwen2_folder.write_qwen2_folder(source, tensors, tie_word_embeddings=None)
    assert run("from", "--source", source, "--out", tmp_path / f"run{number}", *tie) == 0
    config = json.loads((tmp_path / f"run{number}" / "config.json").read_text())
    assert config["model"]["llm"]["tied"] is True
  source = qwen2_folder.write_qwen2_folder(tmp_path / "again", tensors, tie_word_embeddings=None)
  said = refused(capsys, tmp_path / "run", "from", "--source", source, "--set", "llm.tied=False")
  assert "holds no lm_head.weight" in said


def test_a_file_without_a_config(tmp_path, capsys):
  library.save_file(qwen2_folder.qwen2_tensors(), tmp_path / "x.safetensors")
  said = refused(capsys, tmp_path / "run", "from", "--source", tmp_path / "x.safetensors")
  assert "--set ROLE.name=" in said


def test_a_family_that_is_not_known(tmp_path, capsys):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub", model_type="mamba")
  assert "'mamba'" in refused(capsys, tmp_path / "run", "from", "--source", source)


def test_a_format_that_cannot_hold_the_model(tmp_path, capsys):
  assert (
    run(
      "from",
      "--source",
      qwen2_folder.write_qwen2_folder(tmp_path / "hub"),
      "--out",
      tmp_path / "run",
    )
    == 0
  )
  capsys.readouterr()
  said = refused(capsys, tmp_path / "out", "to", "--checkpoint", tmp_path / "run", "--format", "hf")
  assert "needs a whole model, but this checkpoint has no encoder" in said


def test_no_checkpoint(tmp_path, capsys):
  said = refused(capsys, tmp_path / "out", "to", "--checkpoint", tmp_path / "no", "--format", "hf")
  assert "no checkpoint" in said


@pytest.mark.parametrize("direction", ["from", "to"])
def test_a_disk_that_fills_up_leaves_nothing(direction, tmp_path):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  argv = ["from", "--source", str(source), "--out", str(tmp_path / "out")]
  if direction == "to":
    assert run("from", "--source", source, "--out", tmp_path / "run") == 0
    argv = [
      "to",
      "--checkpoint",
      str(tmp_path / "run"),
      "--format",
      "qwen2",
      "--out",
      str(tmp_path / "out"),
    ]
  done = subprocess.run(  # No file may grow beyond 4 kB.
    ["bash", "-c", 'ulimit -f 4; exec "$@"', "-", sys.executable, "-m", "filax", "convert", *argv],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2, done.stderr
  assert "There is no space for" in done.stderr and "Traceback" not in done.stderr
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {"hub"} | ({"run"} if direction == "to" else set())


def test_a_conversion_that_is_stopped_leaves_nothing(tmp_path):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  going = subprocess.Popen(
    [
      sys.executable,
      "-m",
      "filax",
      "convert",
      "from",
      "--source",
      source,
      "--out",
      tmp_path / "run",
      "--verify",
    ],
    stderr=subprocess.PIPE,
  )
  while not list(tmp_path.glob("run.*.tmp/config.json")):  # All is written, not yet judged.
    assert going.poll() is None, going.stderr.read()
    time.sleep(0.01)
  going.terminate()
  assert going.wait() == 143
  assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_conversion_that_is_killed_leaves_nothing_for_long(tmp_path):
  source = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  out = tmp_path / "run"
  interrupted.kill_writer(
    f"write_folder_atomically({str(out)!r})", "(out / 'config.json').write_bytes(b'half')"
  )
  with interrupted.half_writer(
    f"write_folder_atomically({str(out)!r})", "(out / 'half').write_bytes(b'half')"
  ):
    assert len(list(tmp_path.glob("run.*.tmp"))) == 2
    assert run("from", "--source", source, "--out", out) == 0
    (other,) = tmp_path.glob("run.*.tmp")  # Of a call that goes on.
    assert (other / "half").exists()
  assert (out / "config.json").stat().st_size > 100


def test_of_two_conversions_one_wins(tmp_path):
  out = tmp_path / "run"
  with pytest.raises(FileExistsError, match="exists already"):
    with output_folder.create_output_folder(out) as slow:
      (slow / "slow").write_bytes(b"")
      with output_folder.create_output_folder(out) as fast:
        (fast / "fast").write_bytes(b"")
  assert [path.name for path in out.iterdir()] == ["fast"]
  assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_help_shows_how(capsys):
  with pytest.raises(SystemExit):
    run("from", "--help")
  text = capsys.readouterr().out
  assert "--source llava-onevision" in text and "mm_projector.bin" in text
  with pytest.raises(SystemExit):
    run("to", "--help")
  assert "videochat-flash" in capsys.readouterr().out


def test_the_commands_of_the_texts_are_understood():
  from filax.cli import convert

  readme = (pathlib.Path(__file__).parents[2] / "filax/convert/README.md").read_text()
  text = (readme + convert.__doc__).replace("\\\n", "")
  commands = re.findall(r"^ *filax convert ((?:from|to) .+)", text, re.M)
  examples = re.findall(r"^  .{15}  (--.+)", convert.FROM_EXAMPLES.replace("\\\n", ""), re.M)
  assert len(commands) == 6 and len(examples) == 6
  without_base = [example for example in examples if "--base" not in example]  # It must exist.
  for line in [*commands, *(f"from {example}" for example in without_base)]:
    assert convert.convert_parser().parse_args(shlex.split(line)).out
