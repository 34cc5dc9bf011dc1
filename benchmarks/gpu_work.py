# SPDX-License-Identifier: Apache-2.0
"""A process of the GPU benchmark: measures the figures of one group on one side.

python -m benchmarks.gpu_work llm filax full
"""

from collections.abc import Callable, Mapping
import importlib
import json
import statistics
import sys
import time
from typing import Any

FIGURE = "FIGURE "  # Before the JSON of a figure on stdout.

_QWEN2_7B = dict(
  width=3584, depth=28, heads=28, kv_heads=4, head_dim=128, mlp=18_944, vocab=152_064, tied=False
)
_QWEN2_1_5B = dict(
  width=1536, depth=28, heads=12, kv_heads=2, head_dim=128, mlp=8960, vocab=151_936, tied=True
)
_QWEN2_3B = dict(
  width=2048, depth=36, heads=16, kv_heads=2, head_dim=128, mlp=11_008, vocab=151_936, tied=True
)
_TINY = dict(width=32, depth=2, heads=4, kv_heads=2, head_dim=8, mlp=64, vocab=512, tied=False)

SIZES: dict[str, dict[str, Any]] = {
  "full": dict(
    llm=_QWEN2_7B,
    prefill=(8192, 32_768),
    decode=((8192, 1), (8192, 8), (32_768, 1), (32_768, 8)),
    tokens=32,
    train=(
      dict(name="1.5B", llm=_QWEN2_1_5B, tokens=8192, gib=70),
      dict(name="3B", llm=_QWEN2_3B, tokens=8192, gib=130),
    ),
    siglip=dict(variant="so400m-384", layers=26, batch=64),
    umt=(dict(variant="L-224", layers=23, batch=64), dict(variant="L-448", layers=23, batch=16)),
    tome=((512, 784, 64), (128, 3136, 64)),  # Clips, tokens before and after.
    kmeans=10_000,
    answer=dict(encoder="L-224", frames=2048, part=256, tokens=64),
  ),
  "tiny": dict(
    llm=_TINY,
    prefill=(64, 128),
    decode=((64, 1), (64, 2)),
    tokens=4,
    train=(dict(name="tiny", llm=_TINY, tokens=64, gib=0),),
    siglip=dict(variant="tiny", layers=2, batch=2),
    umt=(dict(variant="tiny", layers=2, batch=2),),
    tome=((2, 64, 16),),
    kmeans=128,
    answer=dict(encoder="tiny", frames=16, part=8, tokens=4),
  ),
}
MEMORY_SHARE = 0.93  # The share of the device's memory that jax takes.
ROUNDS = 5
REMAT = "attn_mlp"  # For train steps; it certainly fits in the `gib` of each.
SLOW = 3.0  # Seconds of a round from which three rounds are enough.


def main() -> None:
  """Measures the group named in argv."""
  group, side, size = sys.argv[1:]
  module = importlib.import_module(f"benchmarks.gpu_{side}")
  module.GROUPS[group](SIZES[size])


def measure_work(
  work: str, unit: str, amount: float, prepare: Callable[[], Callable[[], Any]]
) -> None:
  """Prepares some work, times it and prints the figure, or the error.

  `prepare` returns the round to time: a function that returns seconds, or a dict with "seconds" and
  further figures.
  """
  figure: dict[str, Any] = dict(work=work, unit=unit, amount=amount)
  try:
    start = time.perf_counter()
    run = prepare()
    figures = [_as_figures(run())]
    figure["ready_s"] = time.perf_counter() - start  # With weights, compilation, the first round.
    figure["first_s"] = figures[0]["seconds"]
    rounds = 3 if figures[0]["seconds"] > SLOW else ROUNDS
    figures = [_as_figures(run()) for _ in range(rounds)]
    for key in figures[0]:
      figure[key] = statistics.median(sample[key] for sample in figures)
    figure["rounds"] = [sample["seconds"] for sample in figures]
  except Exception as error:  # Often: no memory left. The other figures continue.
    figure["error"] = f"{type(error).__name__}: {error}"[:400]
  print(FIGURE + json.dumps(figure), flush=True)


def _as_figures(result: float | Mapping[str, float]) -> dict[str, float]:
  return dict(result) if isinstance(result, Mapping) else dict(seconds=result)


if __name__ == "__main__":
  main()
