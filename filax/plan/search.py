# SPDX-License-Identifier: Apache-2.0
"""Tries meshes, recomputation and rows at once for a slice of TPUs."""

from collections.abc import Iterator, Mapping, Sequence
import copy
from typing import Any

import jax

from filax.plan import program, topology
from filax.train.setup import prepare

REMAT = ("products", "attn_mlp", "attn", "nothing")  # From little to much recomputation.
SEQ = (1, 2, 4, 8, 16, 32, 64)


def search_meshes(config: Mapping[str, Any], slice_: topology.Topology) -> Iterator[dict[str, Any]]:
  """Yields every trial: settings, bytes, whether it fits, the error.

  First come the fewest devices along seq that fit with the config's remat; with these the step is
  tried with less recomputation, then with more rows at once.
  """
  devices = slice_.devices()
  remat = config["model"]["llm"].get("remat", "nothing")
  for seq in SEQ:
    if slice_.chips % seq:
      continue
    trial = _trial(config, slice_, devices, seq, remat, 1)
    yield trial
    if trial["fits"]:
      yield from _faster_trials(config, slice_, devices, seq, remat)
      return


def best_trial(trials: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
  """The last trial that fits; trials improve. None if none fits."""
  for trial in reversed(trials):
    if trial["fits"]:
      return trial
  return None


def _faster_trials(
  config: Mapping[str, Any],
  slice_: topology.Topology,
  devices: Sequence[jax.Device],
  seq: int,
  remat: str,
) -> Iterator[dict[str, Any]]:
  """Trials with less recomputation, then with two rows at once."""
  lighter = REMAT[: REMAT.index(remat)] if remat in REMAT else ()
  for candidate in lighter:
    trial = _trial(config, slice_, devices, seq, candidate, 1)
    yield trial
    if trial["fits"]:
      remat = candidate
      break
  yield _trial(config, slice_, devices, seq, remat, 2)


def _trial(
  config: Mapping[str, Any],
  slice_: topology.Topology,
  devices: Sequence[jax.Device],
  seq: int,
  remat: str,
  at_once: int,
) -> dict[str, Any]:
  """Compiles the largest rows of a variant of the config."""
  variant = copy.deepcopy(dict(config))
  fsdp = slice_.chips // seq
  variant["mesh"] = dict(data=1, fsdp=fsdp, seq=seq, tensor=1)
  variant["model"]["llm"]["remat"] = remat
  variant["optim"]["accumulate"] = max(1, variant["batch"] // (fsdp * at_once))
  trial = dict(
    mesh=variant["mesh"],
    remat=remat,
    rows_at_once=at_once,
    fits=False,
    bytes=None,
    error="",
    accumulate=variant["optim"]["accumulate"],
  )
  try:
    setup = prepare(variant, 1000, devices, slice_.chip.hbm)
    largest = program.config_rows(variant, setup.model)[-1]
    compiled = program.compile_step(setup, variant, largest)
  except ValueError as error:
    return trial | dict(error=str(error))
  total = compiled.memory.total
  fits = not compiled.error and total <= slice_.chip.hbm
  return trial | dict(fits=fits, bytes=total, error=compiled.error)
