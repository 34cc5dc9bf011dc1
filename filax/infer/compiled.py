# SPDX-License-Identifier: Apache-2.0
"""Jitted functions that count and print their compilations."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import sys
import time

import jax


class CountedProgram:
  """A jitted function that counts its compilations and prints them.

  A line on stderr names the shapes of each compilation. `count` is the number of compilations so
  far; one per bucket is expected.
  """

  def __init__(self, name: str, function: Callable, **options):
    self.name = name
    self.count = 0
    self._run = jax.jit(self._counted(function), **options)

  def __call__(self, label: str, *args, **kwargs):
    """Runs the function; `label` describes the shapes, e.g. "4 x 512"."""
    with self._reported(label):
      return self._run(*args, **kwargs)

  def compile_for(self, label: str, *args, **kwargs) -> None:
    """Compiles the function for arguments of which some are jax.ShapeDtypeStruct.

    A later call with arguments of these shapes finds the program.
    """
    with self._reported(label):
      self._run.lower(*args, **kwargs).compile()

  @contextlib.contextmanager
  def _reported(self, label: str) -> Iterator[None]:
    """Prints a line if the block compiles the function.

    Numbers have 32 bits in it, also for a user of jax_enable_x64.
    """
    count_before = self.count
    start = time.perf_counter()
    with jax.enable_x64(False):
      yield
    if self.count > count_before:
      seconds = time.perf_counter() - start
      print(
        f"compiled {self.name} {label} in {seconds:.1f} s (compilation {self.count})",
        file=sys.stderr,
        flush=True,
      )

  def _counted(self, function: Callable) -> Callable:
    def traced(*args, **kwargs):  # Runs only while JAX traces: once per compilation.
      self.count += 1
      return function(*args, **kwargs)

    return traced


def compilations(programs: Sequence[CountedProgram]) -> int:
  """The total compilations of several programs so far."""
  return sum(program.count for program in programs)


def bucket(size: int, sizes: tuple[int, ...], knob: str) -> int:
  """The smallest of `sizes` that holds `size`.

  Raises ValueError naming the knob if none does.
  """
  large_enough = [limit for limit in sizes if limit >= size]
  if not large_enough:
    raise ValueError(
      f"{size} tokens do not fit in the largest bucket, {max(sizes)}. Add a larger one to {knob}."
    )
  return min(large_enough)
