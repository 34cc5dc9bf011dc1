# SPDX-License-Identifier: Apache-2.0
"""The model with the selectors and dropouts that requests ask for."""

import threading

from filax.infer.loaded import LoadedModel
from filax.models.components import available
from filax.serve.requests import RequestError


class ModelVariants:
  """Copies of a loaded model with other selectors and dropouts.

  Each is made once, and shares the parameters. Each compiles programs of its own, so their number
  is bounded.
  """

  def __init__(self, loaded: LoadedModel, limit: int):
    self._limit = limit
    self._lock = threading.Lock()
    self._variants = {("", ""): loaded}

  def find_variant(self, selector: str, dropout: str) -> LoadedModel:
    """The model with a selector and a dropout.

    "" keeps the checkpoint's. Raises RequestError.
    """
    key = (selector, dropout)
    with self._lock:
      variant = self._variants.get(key)
      if variant is not None:
        return variant
      if len(self._variants) >= self._limit:
        raise RequestError(
          f"This server has answered with {self._limit} pairs of selector and dropout (variants), "
          "and takes no other ones.",
          parameter="selector" if selector else "dropout",
        )
      variant = self._variant(selector, dropout)
      self._variants[key] = variant
      return variant

  def _variant(self, selector: str, dropout: str) -> LoadedModel:
    loaded = self._variants[("", "")]
    if selector and selector != loaded.processor.infer["selector"]["name"]:
      _check_selector(selector)
    try:
      if selector:
        loaded = loaded.with_selector(selector)
    except ValueError as error:
      raise RequestError(str(error), parameter="selector") from error
    try:
      return loaded.adjusted(dropout=dropout)
    except ValueError as error:
      raise RequestError(str(error), parameter="dropout") from error


def _check_selector(name: str) -> None:
  """Raises RequestError unless a selector is one of FiLax.

  A config may name a class of any module; a client may not, since its module would be imported.
  """
  choices = available("selector")
  if name not in choices:
    raise RequestError(
      f"selector={name[:100]!r} is unknown. Set it to one of {', '.join(choices)}.",
      parameter="selector",
    )
