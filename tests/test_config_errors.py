# SPDX-License-Identifier: Apache-2.0
"""A config that cannot be used is named, with the line that fails."""

import re

import pytest

import filax
from filax.cli import chat, config_flags, data, train
from filax.models.components import build_video_lm

EMPTY = "from configs import common\n\n\ndef get_config(arg=None):\n"
CONFIGS = {
  EMPTY + "  return 1 / 0\n": "The config {} fails in line 5: ZeroDivisionError: division by zero",
  "import not_installed\n": "The config {} fails in line 1: ModuleNotFoundError: No module named",
  EMPTY + "  return {}['b']\n": "The config {} fails in line 5: KeyError: 'b'",
  EMPTY + "  pass\n": "--config {} is not a config: it must have a get_config",
  "x = 1\n": "--config {} is not a config: it must have a get_config",
}


@pytest.mark.parametrize("content, message", CONFIGS.items())
def test_a_config_that_fails(content, message, tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(content)
  with pytest.raises(ValueError) as error:
    config_flags.read_config([f"--config={file}:debug"])
  assert str(error.value).startswith(message.format(file))


def test_a_config_that_is_not_there(tmp_path):
  with pytest.raises(ValueError, match=f"There is no config {tmp_path}/x.py. Set --config to"):
    config_flags.read_config(["--config", f"{tmp_path}/x.py:debug"])


@pytest.mark.parametrize("words", [["--workdir="], ["--workdir", ""]])
def test_an_empty_workdir_is_missing(words):
  with pytest.raises(ValueError, match="--workdir is missing: where it goes"):
    config_flags.read_config(["--config=fila_toy", *words], workdir="where it goes")


@pytest.mark.parametrize("words", [["--base"], ["--base="]])
def test_a_base_without_a_folder(words):
  with pytest.raises(ValueError, match="--base is missing its value"):
    train.main(["--config=fila_toy", "--workdir=x", *words])


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--config.data.train.0=x", r"--config.data.train.0 sets a part of config.data.train=\(\("),
    ("--config.data.train[0]=x", r"can only be set as a whole: --config.data.train=VALUE"),
    ("--config.data.rows.x=3", "can only be set as a whole: --config.data.rows=VALUE"),
    ("--config.steps.x=3", "--config.steps.x sets a part of config.steps=0, "),
    ("--config.steps:3", "--config.steps:3 is not the name of a setting"),
    ("--config..steps=3", "--config..steps is not the name of a setting"),
    ("--config.model.llm.size=3", "no such config key: config.model.llm.size. `filax show` prints"),
    ("--config.data.sampling.fps=1", r"--config.data.sampling=\"{'name': …}\""),
    ("--config.dat.x=3", 'There is no such config key: config.dat.x. Did you mean "data"'),
  ],
)
def test_a_flag_that_names_no_whole_setting(flag, message):
  words = ["--config=fila_stage4", flag, "--workdir", "../runs/a..b"]
  with pytest.raises(ValueError, match=message):
    config_flags.read_config(words, workdir="")


def test_another_component_is_set_with_its_arguments():
  """The config's arguments are those of the component before."""
  words = ["--config=fila_toy:debug", "--config.infer.selector.name=uniform"]
  config, _ = config_flags.read_config(words)
  with pytest.raises(ValueError, match="takes no 'history'") as error:
    build_video_lm(config.model, config.infer.selector)
  (flag,) = re.findall(r'--config.infer.selector="(.*)"', str(error.value))
  config, _ = config_flags.read_config([words[0], f"--config.infer.selector={flag}"])
  assert config.infer.selector.to_dict() == dict(name="uniform", size=3)
  build_video_lm(config.model, config.infer.selector)


@pytest.mark.parametrize("words", [["--chekpoint", "a"], ["--checkpoint", "a", "--chekpoint=b"]])
def test_a_misspelt_option_is_named(words):
  with pytest.raises(ValueError, match="--chekpoint does not exist, did you mean --checkpoint"):
    chat.main(words)


def test_an_unknown_option_of_a_verb_names_the_help_of_the_verb():
  with pytest.raises(ValueError, match=r"--too x; .* mean --root\? `filax data reformat --help`"):
    data.main(["reformat", "a.json", "b.json", "--too", "x"])


SHRUNK = EMPTY + "  c = common.shrink(common.base())\n"


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("c.optim.wramup = 0.5", "config.optim.wramup is set, .* Did you mean config.optim.warmup?"),
    ("c.batch_size = 8", "config.batch_size is set, .* Did you mean config.batch?"),
    ("c.optimizer = dict(warmup=0.5)", "config.optimizer.warmup .* mean config.optim.warmup?"),
    ("c.notes = 'x'", "config.notes is set, .* go into a group such as config.my_lab"),
    ("c.optim.rates = (('', np.float32(1)),)", r"config.optim.rates=.* config.json .* float\(x\)"),
    ("c.steps = required(int)", r"leaves config.steps open \(required_placeholder\).* a default"),
    ("c = FrozenConfigDict(c)", "is not a config: it must have a get_config"),
  ],
)
def test_a_line_of_a_config_that_would_have_no_effect(line, message, tmp_path):
  imports = "import numpy as np\nfrom ml_collections import FrozenConfigDict\n"
  imports += "from ml_collections.config_dict import required_placeholder as required\n"
  file = tmp_path / "mine.py"
  file.write_text(f"{imports}{SHRUNK}  {line}\n  return c\n")
  with pytest.raises(ValueError, match=message):
    config_flags.read_config([f"--config={file}"])


def test_a_group_of_settings_for_hooks_of_the_users_own(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(f"{SHRUNK}  c.my_lab = dict(notes='x')\n  return c\n")
  config, _ = config_flags.read_config([f"--config={file}", "--config.my_lab.notes=y"])
  assert config.my_lab.notes == "y"


def test_a_setting_left_open_is_set_from_python(tmp_path):
  file = tmp_path / "mine.py"
  required = "from ml_collections.config_dict import required_placeholder\n"
  file.write_text(f"{required}{SHRUNK}  c.steps = required_placeholder(int)\n  return c\n")
  config = filax.load_config(file)
  with pytest.raises(ValueError, match=r"leaves config\.steps open"):
    filax.run_training(config, tmp_path / "run")
  config.steps = 3
  config.optim.warmup = -1.0
  with pytest.raises(ValueError, match=r"config\.optim\.warmup"):
    filax.run_training(config, tmp_path / "run")
  with pytest.raises(AttributeError, match="locked"):
    config.optim.wramup = 1.0


def test_a_config_in_the_home_folder(tmp_path, monkeypatch):
  """A shell does not expand the ~ of --config=~/mine.py."""
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "mine.py").write_text(SHRUNK + "  return c\n")
  config, _ = config_flags.read_config(["--config=~/mine.py:debug"])
  assert config.steps == 4
