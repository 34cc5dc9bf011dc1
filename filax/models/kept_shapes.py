# SPDX-License-Identifier: Apache-2.0
"""Shapes of a model's parameters, kept between processes.

Tracing a model to find them takes a second. They are kept beside the compiled programs
(filax.compilation_cache), under a key of the model's settings, the code that defines its parameters
and the version of flax. If the cache of programs is switched off, shapes are not kept either.
"""

from collections.abc import Callable
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import flax
from flax import traverse_util
import jax

from filax import compilation_cache
from filax.models.components import ROLES

_PACKAGE = Path(__file__).parents[1]
_SOURCES = ("models", "ops", "parallel", "spec")  # Folders whose code decides about parameters.
_ADDRESS = " at 0x"  # In the text of a function, which differs between processes.

Shapes = dict[str, Any]  # Tree of jax.ShapeDtypeStruct.


def shapes_of(model, trace: Callable[[], Shapes]) -> Shapes:
  """Shapes of a VideoLM's parameters, kept or from `trace`."""
  folder = compilation_cache.storage()
  settings = repr(model)
  if folder is None or _ADDRESS in settings or not is_own(model):
    return trace()
  key = _key(settings)
  content = folder.get(key)
  if content is not None:
    return _parse(content)
  shapes = trace()
  folder.put(key, _text(shapes).encode())
  return shapes


def is_own(model) -> bool:
  """Whether all parts of a model are classes of this package.

  The code of others is not in the key.
  """
  for role in ROLES:
    part = getattr(model, role, None)
    is_module = isinstance(part, flax.linen.Module)
    if is_module and not type(part).__module__.startswith("filax."):
      return False
  return True


def _key(settings: str) -> str:
  text = f"{flax.__version__}\n{_code_digest()}\n{settings}"
  digest = hashlib.sha256(text.encode())
  return f"shapes-{digest.hexdigest()}"


@functools.cache
def _code_digest() -> str:
  """The SHA-256 of the code that decides about parameters."""
  digest = hashlib.sha256()
  for folder in _SOURCES:
    for path in sorted((_PACKAGE / folder).rglob("*.py")):
      digest.update(path.read_bytes())
  return digest.hexdigest()


def _text(shapes: Shapes) -> str:
  rows = {}
  for path, leaf in traverse_util.flatten_dict(shapes, sep="/").items():
    rows[path] = (leaf.shape, leaf.dtype.name)
  return json.dumps(rows)


def _parse(content: bytes) -> Shapes:
  leaves = {}
  for path, (shape, dtype) in json.loads(content).items():
    leaves[path] = jax.ShapeDtypeStruct(tuple(shape), dtype)
  return traverse_util.unflatten_dict(leaves, sep="/")
