# SPDX-License-Identifier: Apache-2.0
"""--verify runs both sides, reports figures, and names the first module that differs.

Through the command each side is a process of its own: of a good conversion and of one that is
refused. Other cases run both sides in this one.
"""

import importlib
import json

import hf_llava
import hf_qwen2
import numpy as np
import pytest
import released_flash as flash
from safetensors.torch import load_file, save_file
import torch
import transformers

from filax.cli import main as command
from filax.convert import ConversionError, export_folder, import_folder, import_inputs
from filax.convert.verify import compare as verify
from filax.testing import tiny_checkpoint

pytestmark = pytest.mark.slow

PARTS = dict(whole=("encoder", "projector", "llm"), encoder=("encoder",), llm=("llm",))
FLASH = ("--set", "encoder.variant=tiny")
TOWER = {"encoder.name": "umt", "encoder.variant": "tiny"}


def here(side, folder, stages):
  """Runs a side in this process, which has imported all that it needs."""
  out = folder / f"{side}.npz"
  importlib.import_module(f"filax.convert.verify.{side}_side").main(["", folder, out, stages])
  with np.load(out) as found:
    return dict(found)


def ours_once():
  """The same for one checkpoint: our side of it runs only once."""
  kept = {}

  def side(name, folder, stages):
    if name == "jax" and stages in kept:
      return kept[stages]
    found = here(name, folder, stages)
    return kept.setdefault(stages, found) if name == "jax" else found

  return side


def compared(source, family, roles, run, model, run_side=here):
  part = verify.PyTorchPart(source, family, PARTS[roles])
  return verify.compare_models([part], run, model, run_side=run_side)


def tower_file(folder):
  tower, _ = flash.tiny("umt")
  torch.save(
    {f"encoder.{k.replace('vision_layernorm', 'norm')}": v for k, v in tower.state_dict().items()},
    folder / "tower.pt",
  )
  return folder / "tower.pt"


def written(family, folder):
  """A source of each family: (path, what the command must be told of it)."""
  if family == "llava-onevision":
    return hf_llava.write(folder / "hub", hf_llava.tiny(), "B"), ()
  if family == "videochat-flash":
    flash.released(folder / "hub", "internvideo2")
    return folder / "hub", FLASH
  if family == "qwen2":
    hf_qwen2.pair()[0].save_pretrained(folder / "hub")
    return folder / "hub", ()
  return tower_file(folder), ("--set", "encoder.name=umt", "--set", "encoder.variant=tiny")


def test_a_good_conversion_reports_its_figures(tmp_path, capsys):
  source, _ = written("llava-onevision", tmp_path)
  out = tmp_path / "run"
  assert (
    command.main(["convert", "from", "--source", str(source), "--out", str(out), "--verify"]) == 0
  )
  found = json.loads((out / "conversion_report.json").read_text())["verify"]
  assert found["max_difference"].keys() == {"features", "visual", "logits"}
  assert found["max_logit_difference"] < 1e-4 and abs(found["kl"]) < 1e-6
  assert found["top1_agreement"] == 1.0 and found["dtype"] == "float32"
  assert "verified in float32: features " in capsys.readouterr().out


@pytest.mark.parametrize(
  ("family", "wrong", "module"),
  [
    ("videochat-flash", ("--set", "llm.theta=7"), "llm.layers.0"),
    ("qwen2", ("--set", "llm.eps=0.1"), "llm.layers.0"),
    ("tower", ("--dtype", "bfloat16"), "encoder.layers.0"),
  ],
)
def test_a_model_that_differs_is_refused(family, wrong, module, tmp_path, capsys, monkeypatch):
  if family != "videochat-flash":
    monkeypatch.setattr(verify, "run_side_process", here)
  source, needed = written(family, tmp_path)
  before = {path.name for path in tmp_path.iterdir()}
  capsys.readouterr()
  assert (
    command.main(
      [
        "convert",
        "from",
        "--source",
        str(source),
        "--out",
        str(tmp_path / "run"),
        *needed,
        *wrong,
        "--verify",
      ]
    )
    == 2
  )
  *_, said = capsys.readouterr().err.splitlines()  # One line, whatever libraries wrote before.
  assert "so nothing was written" in said
  assert f"first diverging module (1): {module} (" in said
  assert {path.name for path in tmp_path.iterdir()} == before


def test_the_first_diverging_module_is_named(tmp_path):
  theirs, side = hf_llava.tiny(), ours_once()
  source = hf_llava.write(tmp_path / "hub", theirs, "E")
  report = import_folder.import_checkpoint(
    import_inputs.ImportRequest(out=tmp_path / "run", source=source, sets=hf_llava.sizes(theirs))
  )

  def compare():
    return compared(source, "llava", "whole", tmp_path / "run", report["model"], side)

  assert compare()["top1_agreement"] == 1.0
  good = load_file(source / "model.safetensors")
  tower = "model.vision_tower.vision_tower.vision_model.encoder"
  for name, tensor in (
    ("llm.layers.1", "model.layers.1.mlp.up_proj.weight"),
    ("logits", "lm_head.weight"),
    ("visual", "model.mm_projector.0.bias"),
    ("encoder.layers.2", f"{tower}.layers.2.self_attn.v_proj.bias"),
  ):
    save_file(good | {tensor: good[tensor] + 0.5}, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConversionError) as raised:
      compare()
    (said,) = raised.value.problems["first diverging module"]
    assert said.startswith(f"{name} (")


def test_an_export_that_differs_leaves_nothing(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(verify, "run_side_process", here)
  run = tiny_checkpoint.write_checkpoint(tmp_path / "run")
  assert (
    command.main(
      [
        "convert",
        "to",
        "--checkpoint",
        run,
        "--format",
        "qwen2",
        "--out",
        str(tmp_path / "out"),
        "--verify",
        "--tolerance",
        "1e-12",
      ]
    )
    == 2
  )
  said = capsys.readouterr().err
  assert "so nothing was written" in said and "first diverging module" in said
  assert "--verify bfloat16" in said  # So small a difference may be that of rounding.
  assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_every_form_of_an_export_is_verified(tmp_path):
  run, side = tiny_checkpoint.write_checkpoint(tmp_path / "run"), ours_once()

  def check(folder, form, model):
    part = verify.PyTorchPart(folder, form.family, form.roles)
    return verify.compare_models(
      [part], run, model, run_side=here if form.name == "qwen2" else side
    )

  for form in ("hf", "hf-remote", "llava", "qwen2"):
    report = export_folder.export_checkpoint(
      export_folder.ExportRequest(run, tmp_path / form, form), check
    )
    assert report["verify"]["top1_agreement"] == 1.0


@pytest.mark.parametrize("encoder", flash.ENCODERS)
def test_videochat_flash_is_verified(encoder, tmp_path):
  flash.released(tmp_path / "hub", encoder)
  file = tmp_path / "hub" / "config.json"
  file.write_text(
    json.dumps(
      json.loads(file.read_text())
      | dict(
        mm_llm_compress=True, llm_compress_layer_list=[1], llm_image_token_ratio_list=[1.0, 0.5]
      )
    )
  )
  report = import_folder.import_checkpoint(
    import_inputs.ImportRequest(
      out=tmp_path / "run", source=tmp_path / "hub", sets={"encoder.variant": "tiny"}
    )
  )
  assert report["model"]["llm"]["dropout"] == ((1, "attention", 0.5),)
  found = compared(tmp_path / "hub", "videochat-flash", "whole", tmp_path / "run", report["model"])
  assert found["max_difference"].keys() == {"features", "visual", "logits"}


def test_towers_are_verified(tmp_path):
  tower = transformers.SiglipVisionModel(
    transformers.SiglipVisionConfig(
      hidden_size=32,
      intermediate_size=48,
      num_hidden_layers=3,
      num_attention_heads=4,
      image_size=42,
      patch_size=14,
    )
  )
  hf_llava.random_(tower).save_pretrained(tmp_path / "siglip")
  file = tower_file(tmp_path)
  for family, source, sets in (("siglip", tmp_path / "siglip", {}), ("tower", file, TOWER)):
    out = tmp_path / f"run-{family}"
    report = import_folder.import_checkpoint(
      import_inputs.ImportRequest(out=out, source=source, sets=sets)
    )
    found = compared(source, family, "encoder", out, report["model"])
    assert found["max_difference"].keys() == {"features"}
  state = torch.load(file)
  state["encoder.blocks.1.mlp.fc1.bias"] += 0.5
  torch.save(state, file)
  with pytest.raises(ConversionError, match=r"first diverging module \(1\): encoder.layers.1"):
    compared(file, "tower", "encoder", tmp_path / "run-tower", report["model"])
