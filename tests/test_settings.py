# SPDX-License-Identifier: Apache-2.0
"""The table of settings: it knows every default, and refuses what cannot be by name."""

import importlib
import math
import pathlib
import re

from ml_collections import ConfigDict
import pytest

from data_pipelines.packing import frame_sampling, tiles
from data_pipelines.text import templates
from filax import settings
from filax.cli import config_flags
from filax.cli import main as filax_main
from filax.configs import common
from filax.models import layers, video_lm
from filax.models.projectors import mlp
from filax.ops import history, kmeans
from filax.ops.attention import dense, sequence_parallel
from filax.train import setup, step

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = f"--config={ROOT}/configs/fila_stage4.py:debug"
NAMES = sorted(
  path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "common")
)
FREE = {"model.llm.dropout"}  # A name or stages: filax.spec.dropout_stages.parse_stages reads it.
OPTIONAL = {  # Settings that no config of ours sets, or that belong to other samplers.
  *(
    f"{part}.sampling.{key}"
    for part in ("data", "infer")
    for key in ("fps", "short", "dense", "sparse")
  ),
  *(f"model.selector.{key}" for key in ("scenes", "steps", "history", "seeds")),
}


def leaves(config):
  return {name for name, _ in settings.leaves(config)}


def all_configs():
  modules = [importlib.import_module(f"filax.configs.{name}") for name in NAMES]
  return [common.base(), *(module.get_config(None) for module in modules)]


def test_every_setting_has_a_row_and_every_row_a_setting():
  names = set().union(*map(leaves, all_configs()))
  assert names - settings.TABLE.keys() == FREE
  assert settings.TABLE.keys() - names <= OPTIONAL


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arg", [None, "debug"])
def test_our_configs_pass(name, arg):
  settings.check_settings(importlib.import_module(f"filax.configs.{name}").get_config(arg))


def test_names_are_those_of_the_code():
  def words(path):
    return set(settings.TABLE[path].words.removeprefix("one of ").split(", "))

  assert words("data.template") == set(templates.TEMPLATES)
  assert words("data.labels") == set(templates.LABELS)
  assert words("data.time_prompt") == set(templates.TIME_PROMPTS)
  assert words("data.images.mode") == set(tiles.MODES)
  assert words("data.sampling.phase") == set(frame_sampling.PHASES)
  assert words("data.sampling.name") == set(frame_sampling.SAMPLERS)
  assert words("model.llm.remat") == set(layers.REMAT) | {"none"}
  assert words("model.llm.attention") == {*dense.KERNELS, "splash"}
  assert words("model.llm.sequence") == set(sequence_parallel.STRATEGIES)
  assert words("model.projector.newline") == set(mlp.NEWLINES)
  assert words("model.merge_stage") == set(video_lm.STAGES)
  assert words("infer.selector.history") == set(history.ORDERS)
  assert words("infer.selector.seeds") == set(kmeans.SEEDS)
  assert words("optim.reduction") == set(step.REDUCTIONS)


@pytest.mark.parametrize(
  "change, knob",
  [
    *(
      ({key: value}, key)
      for key, value in [
        ("seed", -1),
        ("seed", 2**64),
        ("data.position_gaps", 2**32),
        ("seed", True),
        ("batch", 0),
        ("batch", 2**31),
        ("steps", 10**20),
        ("infer.selector.size", 2**31 - 1),
        ("model.selector.scenes", 2**31 - 1),
        ("data.sampling.frames", 2**31 - 1),
        ("infer.lengths", (2**31,)),
        ("data.rows", ((10**20, 0, 8, 1),)),
        ("batch", 2.0),
        ("steps", -1),
        ("epochs", -1.0),
        ("epochs", 0.0),
        ("epochs", math.nan),
        ("epochs", math.inf),
        ("keep", -1),
        ("log_every", 0),
        ("checkpoint_every", -5),
        ("peak_tflops", math.nan),
        ("init_from", 3),
        ("mesh.data", 0),
        ("mesh.seq", -2),
        ("mesh.fsdp", 1.0),
        ("data.workers", -1),
        ("data.threads", 0),
        ("data.prefetch", 0),
        ("data.open_seconds", 0.0),
        ("data.decode_seconds", math.nan),
        ("data.resize", "stretch"),
        ("data.template", "alpaca"),
        ("data.labels", "all"),
        ("data.time_prompt", "seconds"),
        ("data.too_long", "cut"),
        ("data.images.mode", "crop"),
        ("data.images.tiles", 0),
        ("data.packing", 1),
        ("data.sampling.name", "uniformly"),
        ("data.sampling.phase", "end"),
        ("data.sampling.frames", -3),
        ("data.sampling.frames", 6.0),
        ("data.sampling.low", 0),
        ("data.sampling.fps", math.nan),
        ("data.sampling.fps", 0.0),
        ("data.sampling", "uniform"),
        ("data.rows", (96, 0, 8192, 1)),
        ("data.rows", ((96, 0, 8192),)),
        ("data.rows", ()),
        ("data.rows", ((96, 0, "many", 1),)),
        ("data.rows", ((96, 0, 8192.5, 1),)),
        ("data.rows", ((1, 0, 64, 1),) * 4),
        ("data.rows", ((-1, 0, 8192, 1),)),
        ("data.train", ("my.json", "all")),
        ("data.train", "my.json"),
        ("data.train", (("my.json",),)),
        ("data.train", (("my.json", "most"),)),
        ("data.train", ((1, "all"),)),
        ("optim.rates", ("", 1e-5)),
        ("optim.rates", (("", "fast"),)),
        ("optim.rates", (("", -1.0),)),
        ("optim.rates", (("", math.inf),)),
        ("optim.rates", (("(", 1.0),)),
        ("optim.rates", 1e-5),
        ("optim.decay", (("", 1.0, 2.0),)),
        ("optim.decay", ((1, 1.0),)),
        ("optim.b1", 1.0),
        ("optim.b2", -0.1),
        ("optim.eps", 0.0),
        ("optim.clip", -1.0),
        ("optim.accumulate", -1),
        ("optim.loss_chunk", 0),
        ("optim.warmup", math.nan),
        ("optim.final", 2.0),
        ("optim.reduction", "sum"),
        ("infer.lengths", ()),
        ("infer.lengths", (64, 0)),
        ("infer.lengths", 64),
        ("infer.max_new_tokens", 0),
        ("infer.temperature", math.nan),
        ("infer.top_p", 0.0),
        ("infer.top_p", 1.5),
        ("infer.sampling.name", "all"),
        ("model.selector.size", 0),
        ("model.dtype", "bf16"),
        ("model.merge_stage", "encoder"),
        ("model.llm.attention", "flash"),
        ("model.encoder.remat", "some"),
        ("model.encoder", "siglip"),
      ]
    )
  ],
)
def test_what_cannot_be_is_refused_by_name(change, knob):
  config = common.base().to_dict()
  for name, value in change.items():
    *groups, key = name.split(".")
    part = config
    for group in groups:
      part = part[group]
    part[key] = value
  with pytest.raises(ValueError, match=rf"config\.{re.escape(knob)}=.*Set ") as error:
    settings.check_settings(ConfigDict(config, type_safe=False))
  assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", settings.NEEDED)
def test_a_missing_setting_is_named(name):
  config = common.base().to_dict()
  settings.check_complete(config)
  *groups, last = name.split(".")
  section = config
  for group in groups:
    section = section[group]
  del section[last]
  with pytest.raises(ValueError, match=f"config.{name} is missing. Set it to "):
    settings.check_complete(config)


def test_a_config_that_replaces_a_group_incompletely_is_refused(tmp_path, capsys):
  file = tmp_path / "mine.py"
  file.write_text(
    "from filax.configs import fila_stage4\n\n\n"
    "def get_config(arg=None):\n"
    '  c = fila_stage4.get_config("debug")\n'
    '  c.data.sampling = dict(name="uniform", frames=6)\n'
    "  return c\n"
  )
  assert filax_main.main(["train", f"--config={file}", f"--workdir={tmp_path}/run"]) == 2
  assert "config.data.sampling.phase is missing. Set it to one of" in capsys.readouterr().err


def test_lists_will_do():
  """JSON has no tuples."""
  settings.check_settings(
    dict(
      data=dict(train=[["my.json", "first:10%"]], rows=[[96, 0, 8192, 1]]),
      optim=dict(rates=[["^llm/", 0], ["", 1e-5]]),
    )
  )


def test_arguments_of_an_own_component_are_its_own():
  settings.check_settings(dict(model=dict(merger=dict(name="my_lab.merge:Model", tokens=0))))


@pytest.mark.parametrize(
  "argument, knob",
  [
    ("--config.seed=-1", "config.seed=-1"),
    ("--config.epochs=nan", "config.epochs=nan"),
    ("--config.data.root=videos\udcff", "config.data.root='videos\\udcff' cannot be used: it"),
    ('--config.data.train=(("\udcff.json","all"),)', "it is not UTF-8"),
    ("--config.data.workers=-1", "config.data.workers=-1"),
    ("--config.data.resize=stretch", "config.data.resize='stretch' is unknown"),
    ("--config.data.rows=(96,0,8192,1)", "config.data.rows="),
    ('--config.optim.rates=("",1e-5)', "config.optim.rates="),
    ('--config.data.train=("my.json","all")', "config.data.train="),
  ],
)
def test_commands_refuse_them(argument, knob):
  with pytest.raises(ValueError, match=re.escape(knob)):
    config_flags.read_config([CONFIG, argument])


def test_a_run_refuses_them():
  config = common.shrink(common.base()).to_dict() | dict(log_every=0)
  with pytest.raises(ValueError, match=r"config\.log_every=0"):
    setup.prepare(config, 4)


def test_the_last_of_a_flag_counts():
  config, given = config_flags.read_config(
    [
      "--config=configs/none.py",
      CONFIG,
      "--config.steps=3",
      "--workdir",
      "a",
      "--config.data.rows=((6,0,128,1),)",
      "--config.data.packing",
      "--config.seed",
      "5",
      "--config.infer.lengths=(64,)",
      "--config.data.rows",
      "((12,0,128,1),)",
      "--config.steps=4",
      '--config.optim.rates=(("",1.0),)',
      '--config.optim.rates=(("",2.0),)',
      "--config.data.packing=False",
      "--config.infer.lengths=(128,256)",
      "--config.seed=7",
      "--workdir=b",
    ],
    workdir="",
  )
  assert config.data.rows == ((12, 0, 128, 1),) and config.optim.rates == (("", 2.0),)
  assert config.infer.lengths == (128, 256) and not config.data.packing
  assert (config.steps, config.seed, given) == (4, 7, {"workdir": "b"})


@pytest.mark.parametrize(
  "argv, expected",
  [
    (["--a", "1", "--a", "2"], ["--a", "2"]),
    (["--a=1", "-a", "-2"], ["-a", "-2"]),
    (["--a", "--b", "--a=0"], ["--b", "--a=0"]),
    (["x", "--a", "1", "x"], ["x", "--a", "1", "x"]),
  ],
)
def test_words_of_the_command_line(argv, expected):
  assert config_flags.last_of_each(argv) == expected
