# SPDX-License-Identifier: Apache-2.0
"""Exports in another transformers than the installed one. Opt-in:

make test-transformers4  # Makes an environment with transformers 4.57 and runs this file.
FILAX_OTHER_TRANSFORMERS=/another/bin/python pytest tests/parity/test_convert_transformers4.py
"""

import json
import os
import pathlib
import subprocess
import sys

import hf_llava
import numpy as np
import pytest

from data_pipelines.text import tokenizers
from filax.convert import export_folder, import_folder, import_inputs
from filax.testing import clips, tiny_checkpoint

OTHER = os.environ.get("FILAX_OTHER_TRANSFORMERS", "")
pytestmark = pytest.mark.skipif(
  not OTHER, reason="FILAX_OTHER_TRANSFORMERS names no Python with another transformers"
)
HERE = pathlib.Path(__file__).parent


def loaded(python, folder, inputs, form, home):
  done = subprocess.run(
    [python, HERE / "load_export.py", folder, inputs, form],
    capture_output=True,
    text=True,
    env=os.environ | {"HF_MODULES_CACHE": str(home / "modules")},
    check=False,
  )
  assert not done.returncode, done.stderr[-2000:]
  return json.loads(done.stdout.splitlines()[-1])


def both(folder, form):
  """What the installed version and the other one make of folder/out."""
  return [
    loaded(python, folder / "out", folder / "inputs.npz", form, folder / name)
    for name, python in (("here", sys.executable), ("there", OTHER))
  ]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", ["hf", "hf-remote", "qwen2"])
def test_the_other_version_gives_the_same_logits(form, tied, tmp_path):
  theirs = hf_llava.tiny(tied=tied)
  source = hf_llava.write(tmp_path / "hub", theirs, "A")
  import_folder.import_checkpoint(import_inputs.ImportRequest(out=tmp_path / "run", source=source))
  export_folder.export_checkpoint(
    export_folder.ExportRequest(tmp_path / "run", tmp_path / "out", form)
  )
  video = json.loads((tmp_path / "out" / "config.json").read_text()).get("video_token_index", 0)
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (2, 42, 42, 3)).astype(np.uint8)
  shown = [video] * (2 * 4 + 1) if form != "qwen2" else []
  tokens = np.array([[5, 6, *shown, 7, 8, 9]])
  np.savez(tmp_path / "inputs.npz", tokens=tokens, frames=frames)
  here, there = both(tmp_path, form)
  assert here["version"] != there["version"]
  for found in (here, there):
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
      assert found[key] == [], (found["version"], key)
  np.testing.assert_allclose(here["logits"], there["logits"], atol=1e-4, rtol=1e-4)
  assert here["made"] == there["made"]


@pytest.mark.parametrize("form", ["hf", "hf-remote", "llava"])
def test_run_torch_answers_the_same_in_the_other_version(form, tmp_path):
  video = clips.write_video(tmp_path / "a.mp4", 50)
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  export_folder.export_checkpoint(
    export_folder.ExportRequest(
      run, tmp_path / "out", form, tokenizer=tokenizers.load_tokenizer(run)
    )
  )
  answers = [
    subprocess.run(
      [
        python,
        tmp_path / "out" / "run_torch.py",
        "--video",
        video,
        "--question",
        "What is it?",
        "--json",
        "--max-new-tokens",
        "8",
      ],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for python in (sys.executable, OTHER)
  ]
  assert json.loads(answers[0].splitlines()[-1]) == json.loads(answers[1].splitlines()[-1])


def test_the_fusion_stays_in_float32_among_bfloat16(tmp_path):
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  export_folder.export_checkpoint(
    export_folder.ExportRequest(
      run, tmp_path / "out", "hf-remote", dtype="bfloat16", tokenizer=tokenizers.load_tokenizer(run)
    )
  )
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  shown = [config["video_token_index"]] * (2 * 4 + 1)
  np.savez(
    tmp_path / "inputs.npz",
    tokens=np.array([[5, *shown, 7]]),
    frames=np.zeros((6, 42, 42, 3), np.uint8),
  )
  for found in both(tmp_path, "hf-remote"):
    assert found["missing_keys"] == found["unexpected_keys"] == []
    dtypes = found["dtypes"]
    assert dtypes.pop("model.scene_merger.weight") == "torch.float32"
    assert set(dtypes.values()) == {"torch.bfloat16"}
