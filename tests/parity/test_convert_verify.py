# SPDX-License-Identifier: Apache-2.0
"""--verify runs both sides, reports figures, and names the first module that differs."""

import json

import hf_llava
import pytest
import released_flash as flash
from safetensors.torch import load_file, save_file
import small_checkpoint
import torch

from data_pipelines import tokenizers
from filax import __main__ as command
from filax.convert import ConversionError, from_torch, item, verify


def test_a_good_conversion_reports_its_figures(tmp_path):
  source = hf_llava.write(tmp_path / "hub", hf_llava.tiny(), "B")
  out = tmp_path / "run"
  assert command.main(["convert", "from", "--source", str(source), "--out", str(out),
                       "--verify"]) == 0
  found = json.loads((out / "conversion_report.json").read_text())["verify"]
  assert found["max_difference"].keys() == {"features", "visual", "logits"}
  assert found["max_logit_difference"] < 1e-4 and abs(found["kl"]) < 1e-6
  assert found["top1_agreement"] == 1.0 and found["dtype"] == "float32"


@pytest.mark.parametrize(("name", "tensor"), [
  ("llm.layers.1", "model.language_model.layers.1.mlp.up_proj.weight"),
  ("encoder.layers.2", "model.vision_tower.encoder.layers.2.self_attn.v_proj.bias")])
def test_the_first_diverging_module_is_named(name, tensor, tmp_path):
  source = hf_llava.write(tmp_path / "hub", hf_llava.tiny(), "C", legacy=False)
  report = from_torch.convert(from_torch.Request(out=tmp_path / "run", source=source))
  state = load_file(source / "model.safetensors")
  state[tensor] = state[tensor] + 0.5
  save_file(state, source / "model.safetensors", {"format": "pt"})
  theirs = [dict(path=source, family="llava_onevision", roles=("encoder", "projector", "llm"))]
  with pytest.raises(ConversionError) as raised:
    verify.run(theirs, tmp_path / "run", report["model"])
  (said,) = raised.value.problems["first diverging module"]
  assert said.startswith(f"{name} (")


def test_nothing_is_left_of_a_conversion_that_differs(tmp_path, capsys):
  run = small_checkpoint.write(tmp_path / "run")
  out = tmp_path / "out"
  assert command.main(["convert", "to", "--checkpoint", run, "--format", "llava", "--out",
                       str(out), "--verify", "--tolerance", "1e-12"]) == 2
  said = capsys.readouterr().err
  assert "so nothing was written" in said and "first diverging module" in said
  assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize("form", ["hf-remote", "qwen2"])
def test_an_export_is_verified(form, tmp_path):
  run = small_checkpoint.write(tmp_path / "run")
  assert tokenizers.load(run).vocab_size < 512
  assert command.main(["convert", "to", "--checkpoint", run, "--format", form, "--out",
                       str(tmp_path / "out"), "--verify", "float32", "--dtype", "float32"]) == 0


def test_videochat_flash_is_verified(tmp_path):
  flash.released(tmp_path / "hub", "internvideo2")
  assert command.main([
    "convert", "from", "--source", str(tmp_path / "hub"), "--out", str(tmp_path / "run"),
    "--set", "encoder.variant=tiny", "--verify"]) == 0
  found = json.loads((tmp_path / "run" / "conversion_report.json").read_text())["verify"]
  assert found["max_difference"].keys() == {"features", "visual", "logits"}


def test_a_tower_file_is_verified(tmp_path):
  tower, _ = flash.tiny("umt")
  torch.save({f"encoder.{k.replace('vision_layernorm', 'norm')}": v
              for k, v in tower.state_dict().items()}, tmp_path / "tower.pt")
  assert command.main([
    "convert", "from", "--source", str(tmp_path / "tower.pt"), "--out", str(tmp_path / "run"),
    "--set", "encoder.name=umt", "--set", "encoder.variant=tiny", "--verify"]) == 0
  step = item.step_folder(tmp_path / "run")
  assert all(path.startswith("encoder/") for path in item.shapes(step))
