# SPDX-License-Identifier: Apache-2.0
"""Damage to files: flipped bits, cuts, splices, and lengths set to extremes."""

import numpy as np

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def flipped(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """One to sixteen bits are turned over."""
  out = bytearray(data)
  for _ in range(rng.integers(1, 17)):
    out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
  return bytes(out)


def truncated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  return data[: rng.integers(len(data))]


def cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """A piece is missing."""
  begin, end = np.sort(rng.integers(len(data) + 1, size=2))
  return data[:begin] + data[end:]


def repeated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """A short piece comes up to a thousand times."""
  begin = int(rng.integers(len(data)))
  piece = data[begin : begin + int(rng.integers(1, 64))]
  return data[:begin] + piece * int(rng.integers(2, 1000)) + data[begin:]


def spliced(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """The beginning of one file and the end of another."""
  return data[: rng.integers(len(data) + 1)] + other[rng.integers(len(other) + 1) :]


def stretched(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """A field of one to eight bytes, perhaps a length, has an extreme value; heads are hit most."""
  out = bytearray(data)
  reach = len(out) if rng.random() < 0.4 else min(len(out), 128)
  for _ in range(rng.integers(1, 4)):
    size = int(rng.choice([1, 2, 4, 8]))
    value = int(rng.choice(EXTREMES)) % (1 << 8 * size)
    place = int(rng.integers(reach))
    field = value.to_bytes(size, str(rng.choice(["little", "big"])))
    out[place : place + size] = field
  return bytes(out)


MUTATIONS = (flipped, truncated, cut, repeated, spliced, stretched)


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """`data` after one to three kinds of damage; `other` is what pieces are taken from."""
  for _ in range(rng.integers(1, 4)):
    if data:
      data = MUTATIONS[rng.integers(len(MUTATIONS))](data, other, rng)
  return data
