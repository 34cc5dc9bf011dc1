# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash stage 1: alignment of the connector.

The data are pictures, and clips of 4 frames.

  filax train --config configs/vcf_stage1.py --workdir runs/vcf_stage1
  filax train --config configs/vcf_stage1.py:model=2B --workdir runs/vcf_stage1
  filax train --config configs/vcf_stage1.py:encoder=internvideo2 --workdir runs/vcf_stage1
  filax train --config configs/vcf_stage1.py:debug --workdir runs/debug  # A minute on a laptop.

As released: only the connector's MLP is trained, with learning rate 1e-3, 512 samples per step, one
epoch, and a plain template without a time prompt. A clip has 64 tokens, and so has a picture.

Arguments of all stages:

  model=7B              Qwen2-7B with UMT-L at 224 pixels.
  model=2B              Qwen2.5-1.5B with UMT-L at 448 pixels.
  encoder=internvideo2  InternVideo2-1B at 224 pixels instead of UMT-L.
  dropout=STAGES        Visual dropout: a preset of filax.spec.dropout_stages, or stages such as
                        4:uniform:0.75+18:attention:0.25. The release has none.
"""

from ml_collections import ConfigDict

from filax.configs import common
from filax.configs.mixtures.parts import choose
from filax.configs.mixtures.vcf_stage1 import PARTS

MODELS = {"7B": "7B", "2B": "1.5B"}
ENCODERS = {
  "umt": dict(name="umt", remat="auto"),
  "internvideo2": dict(name="internvideo2", variant="1B", remat="auto"),
}
DROPS = "off"


def parse(arg: str | None) -> ConfigDict:
  """The arguments that all stages take."""
  parsed = common.parse_arg(
    arg,
    model="7B",
    encoder="umt",
    dropout=DROPS,
    debug=False,
    packed=False,
    mixture="",
    root="data",
  )
  for name, choices in (("model", MODELS), ("encoder", ENCODERS)):
    value = parsed[name]
    if value not in choices:
      raise ValueError(f"The config has no {name}={value}. Set it to {' or '.join(choices)}.")
  return parsed


def base(arg: ConfigDict, size: int) -> ConfigDict:
  """VideoChat-Flash with frames and pictures of `size` pixels; the 2B model uses 448."""
  c = common.base()
  c.seed = 42
  encoder = dict(ENCODERS[arg.encoder])
  if arg.encoder == "umt":
    encoder["variant"] = f"L-{448 if arg.model == '2B' else size}"
  c.model = dict(
    encoder=encoder,
    selector=dict(name="clips", size=4),
    merger=dict(name="tome", tokens=16),
    projector=dict(name="mlp", newline="none", pool_side=1),
    llm=common.qwen2(
      MODELS[arg.model],
      dropout=arg.dropout,
      dropout_positions="renumber",
      dropout_queries="released",
    ),
    merge_stage="vision",
    encode_chunk=16,
    dtype="bfloat16",
    param_dtype="float32",
  )
  c.infer = dict(
    selector=dict(name="clips", size=4),
    sampling=dict(name="dynamic_fps", frames=512, low=64, multiple=8, phase="released"),
    time_prompt="vcf_released",
    lengths=common.prompt_lengths(262_144),  # With up to 10,000 frames, and more.
    max_new_tokens=1024,
    temperature=0.0,
    top_p=1.0,
  )
  c.data.time_prompt = "vcf"
  c.data.resize = "pillow"  # As released; squash decodes two to three times as fast.
  return c


def dynamic(most: int, least: int) -> dict:
  """Samples about one frame per second, at least `least` and at most `most` frames."""
  return dict(name="dynamic_fps", frames=most, low=least, multiple=4, phase="released")


def get_config(arg=None):
  arg = parse(arg)
  c = base(arg, 224)
  usual = (("data/vcf_stage1_images.json", "all"), ("data/vcf_stage1_videos.json", "all"))
  c.data.train = choose(arg.mixture, arg.root, PARTS, usual)
  c.data.template = "plain"
  c.data.system = ""
  c.data.time_prompt = "none"
  c.data.sampling = dict(name="uniform", frames=4, phase="released")
  c.data.rows = (
    common.row_shape(frames=4, images=1, positions=512),
    common.row_shape(frames=4, images=1, positions=8192),
  )
  c.optim.rates = (("^projector/", 1e-3), ("", 0.0))
  c.batch = 512
  common.shard_sequence(c, seq=1 if arg.encoder == "umt" else 2)
  if arg.packed:  # About 8 samples a row.
    c.data.packing = True
    c.data.rows = (common.row_shape(frames=32, images=8, positions=4096, samples=16),)
    c.batch = 64
  if arg.debug:
    return common.shrink(c)
  return c
