# SPDX-License-Identifier: Apache-2.0
"""A config.infer that its model cannot answer with is refused before training."""

import pytest

import filax
from filax.cli import main as filax_main
from filax.infer.config_check import check_infer

CLIPS = dict(name="clips", size=3, scenes=4)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(selector=CLIPS), "clips takes no 'scenes'.* in config.infer.selector: size"),
    (dict(selector=dict(name="mine", size=3)), "Set config.infer.selector.name to one of"),
    (
      dict(selector=dict(name="kmeans", size=2)),
      r"merger/weight is \(3, .* in training, and \(2, .*Set config.infer.selector.size to 3",
    ),
    (dict(selector=dict(name="bsm", scenes=32, size=3)), r"bsm needs.*config.infer.sampling"),
    (
      dict(
        selector=dict(name="uniform", size=3), sampling=dict(name="uniform", frames=7, phase="ends")
      ),
      "config.infer.sampling.frames=7 is not a multiple of the 3 frames",
    ),
    (
      dict(sampling=dict(name="dynamic_fps", frames=24, phase="ends", dense=1.0)),
      "config.infer.sampling=.* unexpected keyword argument 'dense'",
    ),
  ],
)
def test_settings_that_do_not_suit_the_model_are_named(change, message):
  config = filax.load_config("fila_stage4:debug")
  with config.unlocked():
    for name, value in change.items():
      config.infer[name] = value
  with pytest.raises(ValueError, match=message):
    check_infer(config)


def test_training_refuses_them_before_it_reads_data(tmp_path, capsys):
  argv = ["--config=fila_stage4:debug", f"--config.debug_corpus={tmp_path}/corpus"]
  argv += [f"--workdir={tmp_path}/run", "--config.infer.selector.size=2"]
  assert filax_main.main(["train", *argv]) == 2
  assert "Set config.infer.selector.size to 3" in capsys.readouterr().err
  assert not (tmp_path / "corpus").exists() and not (tmp_path / "run" / "checkpoints").exists()


def test_show_refuses_them(capsys):
  argv = ["--config=fila_stage4:debug", "--config.infer.selector.name=clips"]
  assert filax_main.main(["show", *argv]) == 2
  assert "Known arguments in config.infer.selector: size" in capsys.readouterr().err
