# SPDX-License-Identifier: Apache-2.0
"""Tries meshes, recomputation and rows at a time until a config fits a slice of TPUs."""

from collections.abc import Iterator, Mapping
import copy
from typing import Any

from filax.plan import program, topology
from filax.train import setup as start

REMAT = ("attn_mlp", "attn", "nothing")  # The less is computed again, the better.


def search(config: Mapping[str, Any], slice_: topology.Topology) -> Iterator[dict[str, Any]]:
  """Yields every trial: mesh, remat, rows at a time, bytes, whether it fits or why it cannot be.

  The fewest devices along seq that fit with the config's remat come first; there the step is tried
  with less recomputation, then with more rows at a time.
  """
  devices = slice_.devices()
  here = config["model"]["llm"].get("remat", "nothing")
  for seq in (n for n in (1, 2, 4, 8, 16, 32, 64) if slice_.chips % n == 0):
    trial = _trial(config, slice_, devices, seq, here, 1)
    yield trial
    if trial["fits"]:
      yield from _better(config, slice_, devices, seq, here)
      return


def best(trials: list[dict[str, Any]]) -> dict[str, Any] | None:
  """The last trial that fits: each was an improvement on those before."""
  fitting = [trial for trial in trials if trial["fits"]]
  return fitting[-1] if fitting else None


def _better(config, slice_, devices, seq: int, remat: str) -> Iterator[dict[str, Any]]:
  for lighter in REMAT[: REMAT.index(remat)] if remat in REMAT else ():
    trial = _trial(config, slice_, devices, seq, lighter, 1)
    yield trial
    if trial["fits"]:
      remat = lighter
      break
  trial = _trial(config, slice_, devices, seq, remat, 2)
  yield trial


def _trial(config, slice_, devices, seq: int, remat: str, at_once: int) -> dict[str, Any]:
  """Compiles the largest rows of a variant of the config."""
  config = copy.deepcopy(dict(config))
  fsdp = slice_.chips // seq
  config["mesh"] = dict(data=1, fsdp=fsdp, seq=seq, tensor=1)
  config["model"]["llm"]["remat"] = remat
  config["optim"]["accumulate"] = max(1, config["batch"] // (fsdp * at_once))
  trial = dict(
    mesh=config["mesh"],
    remat=remat,
    rows_at_once=at_once,
    fits=False,
    bytes=None,
    error="",
    accumulate=config["optim"]["accumulate"],
  )
  try:
    setup = start.prepare(config, steps=1000, devices=devices)
    made = program.compile_step(setup, config, program.rows(config, setup.model)[-1])
  except ValueError as error:
    return trial | dict(error=str(error))
  total = made.memory.total
  return trial | dict(
    fits=not made.error and total <= slice_.chip.hbm, bytes=total, error=made.error
  )
