# SPDX-License-Identifier: Apache-2.0
"""What docs/plan.md plans: configs, slices and changes."""

import dataclasses
import sys

STAGES = (
  "fila_stage1",
  "fila_stage2",
  "fila_stage3",
  "fila_stage4",
  "fila_base",
  "vcf_stage1",
  "vcf_stage2",
  "vcf_stage3",
  "vcf_stage4",
)
SLICES = ("v5e:16x16", "v5p:4x4x4", "v6e:16x16")
AUTO = (  # Compiled as they are: what remat and accumulate choose by themselves.
  ("fila_stage4", "v5p:4x4x4"),
  ("vcf_stage3", "v5p:4x4x4"),
)
SERVED = "vcf_stage3"
SERVING_SLICES = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2")
SERVED_FRAMES = "64,512,2048,10000"


@dataclasses.dataclass(frozen=True)
class Entry:
  """One call of `filax plan`."""

  name: str
  config: str
  topology: str
  changes: tuple[str, ...] = ()

  @property
  def key(self) -> str:
    """The entry's name in docs/plan.json."""
    return f"{self.name} {self.topology}"

  @property
  def command(self) -> list[str]:
    """The words of the command."""
    words = [sys.executable, "-m", "filax", "plan", f"--config={self.config}"]
    words += [f"--topology={self.topology}", "--json", *self.changes]
    if "--serve" not in self.changes:
      words.append("--largest")
    return words


ATTENTION_KEPT = ("--config.model.encoder.remat=nothing", "--config.model.llm.remat=attn")
ROW_BY_ROW = (*ATTENTION_KEPT, "--config.optim.accumulate=0")
ALL_ROWS = (*ATTENTION_KEPT, "--config.optim.accumulate=1")
ONE_ROW = ("--config.mesh.fsdp=-1", *ROW_BY_ROW)
LONG_CONTEXTS = [
  Entry(
    "512 frames x 196 tokens",
    "configs/vcf_stage3.py",
    "v5p:4x4x4",
    (
      "--config.mesh.seq=8",
      "--config.batch=8",
      "--config.model.merger.tokens=196",
      "--config.data.rows=((512,0,102400,1),)",
      *ONE_ROW,
    ),
  ),
  Entry(
    "10,000 frames x 16 tokens",
    "configs/vcf_stage3.py",
    "v5p:4x4x4",
    (
      "--config.mesh.seq=16",
      "--config.batch=4",
      "--config.data.rows=((10240,0,172032,1),)",
      *ONE_ROW,
    ),
  ),
  Entry(
    "2M tokens, ring",
    "configs/vcf_stage3.py",
    "v5p:8x8x8",
    (
      "--config.mesh.seq=512",
      "--config.batch=1",
      "--config.model.llm.sequence=ring",
      "--config.model.llm.attention=blockwise",
      "--config.data.rows=((0,1,2097152,1),)",
      *ONE_ROW,
    ),
  ),
]
MEMORY_CHANGES = (
  "mesh.seq=2",
  "mesh.seq=8",
  "model.llm.remat=nothing",
  "model.llm.remat=attn_mlp",
  "model.llm.remat=offload",
)


def sections() -> dict[str, list[Entry]]:
  """The sections of the page: headline -> entries."""
  return {
    "Stages with their own configs: FiLax chooses remat and accumulate": auto_entries(),
    "Stages one row at a time, with remat=attn in the language model": stage_entries(),
    "Memory against seq and remat (fila_stage4 has seq=4, remat=attn)": memory_entries(),
    "Long contexts": LONG_CONTEXTS,
  }


def stage_entries() -> list[Entry]:
  """All stages on all slices."""
  stages = []
  for topology in SLICES:
    for stage in STAGES:
      changes = ALL_ROWS if stage == "fila_stage1" else ROW_BY_ROW
      stages.append(Entry(stage, f"configs/{stage}.py", topology, changes))
  return stages


def auto_entries() -> list[Entry]:
  """Stages whose chosen remat and accumulate are compiled."""
  return [Entry(f"{stage}, auto", f"configs/{stage}.py", topology) for stage, topology in AUTO]


def serving_entries() -> list[Entry]:
  """Answers of one model on small slices."""
  options = ("--serve", f"--frames={SERVED_FRAMES}")
  served = []
  for topology in SERVING_SLICES:
    served.append(Entry(f"{SERVED}, serving", f"configs/{SERVED}.py", topology, options))
  return served


def memory_entries() -> list[Entry]:
  """fila_stage4 on one slice, unchanged and with single changes."""
  name = "fila_stage4"
  config = f"configs/{name}.py"
  variants = [Entry(name, config, SLICES[0], ROW_BY_ROW)]
  for change in MEMORY_CHANGES:
    changes = (*ROW_BY_ROW, f"--config.{change}")
    variants.append(Entry(f"{name}, {change}", config, SLICES[0], changes))
  return variants


def entries() -> list[Entry]:
  """All entries, each once."""
  by_key: dict[str, Entry] = {}
  for section in sections().values():
    for entry in section:
      by_key[entry.key] = entry
  for entry in serving_entries():
    by_key[entry.key] = entry
  return list(by_key.values())
