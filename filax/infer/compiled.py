# SPDX-License-Identifier: Apache-2.0
"""Compiled programs that say so: every compilation is counted and printed once."""

from collections.abc import Callable
import contextlib
import sys
import time

import jax

ALL: list["Program"] = []


class Program:
  """A jitted function. What it compiles is printed to stderr, with the shape that made it do so.

  `count` is the number of compilations so far: one for every bucket, if all is well.
  """

  def __init__(self, name: str, function: Callable, **options):
    self.name, self.count = name, 0
    ALL.append(self)
    self._run = jax.jit(self._counted(function), **options)

  def __call__(self, label: str, *args, **kwargs):
    """Runs the function; `label` says the shapes in words, e.g. "4 x 512"."""
    before, start = self.count, time.perf_counter()
    out = self._run(*args, **kwargs)
    if self.count > before:
      seconds = time.perf_counter() - start
      print(
        f"compiled {self.name} {label} in {seconds:.1f} s (compilation {self.count})",
        file=sys.stderr,
        flush=True,
      )
    return out

  def _counted(self, function: Callable) -> Callable:
    def traced(*args, **kwargs):  # Runs only while JAX traces, which it does once a compilation.
      self.count += 1
      return function(*args, **kwargs)

    return traced


def on_mesh(model):
  """The context in which a model's programs run: the mesh that its parameters were loaded onto."""
  mesh = getattr(model.processor, "mesh", None)
  return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def bucket(size: int, sizes: tuple[int, ...], knob: str) -> int:
  """The smallest of `sizes` that holds `size`. Raises ValueError naming the knob if none does."""
  fits = [s for s in sizes if s >= size]
  if not fits:
    raise ValueError(
      f"{size} tokens do not fit in the largest bucket, {max(sizes)}. Add a larger one to {knob}."
    )
  return min(fits)
