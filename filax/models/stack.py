# SPDX-License-Identifier: Apache-2.0
"""A sequence of equal blocks, whose parameters are stacked or separate."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from filax.models import lora
from filax.models.layer_cache import LayerCache
from filax.models.layers import remat_policy
from filax.parallel.rules import by_axis


class Stack(nn.Module):
  """`depth` equal blocks, of which any range can run.

  Parameters are `layers/...` with a leading axis of `depth`, whichever ranges are run; the block is
  traced once. Or they are apart, `layers/0/...` to `layers/<depth - 1>/...`
  (filax.models.layers_apart): then every layer is traced, and a CPU reads its weights where they
  lie, instead of a copy of each layer's part. A block maps (x, cache, *args) -> (x, cache) with a
  LayerCache or None. Parameters that `dims` (rows of DIMS) shards over fsdp and seq are gathered
  axis by axis, a layer at a time.
  """

  block: Callable[..., nn.Module]
  depth: int
  options: Mapping[str, Any]
  remat: str = "none"
  dims: Sequence[tuple[str, str]] = ()

  def setup(self):
    self.layers = self.block(**self.options)

  @property
  def apart(self) -> bool:
    """Whether the parameters of the layers are apart."""
    return "0" in self.layers.variables.get("params", {})

  def __call__(
    self,
    x,
    cache=None,
    *args,
    start: int = 0,
    stop: int | None = None,
  ):
    """Runs layers start..stop.

    `cache` = (keys, values) of these layers, stacked or apart as the parameters are, or None.
    Returns x and the cache. Initialise with the whole range.
    """
    stop = self.depth if stop is None else stop

    def layer(block, x, cache):
      return block(x, cache, *args)

    if self.dims and not self.is_initializing():
      layer = nn.map_variables(layer, "params", trans_in_fn=self._gathered)
    if self.remat != "none":
      layer = nn.remat(layer, prevent_cse=False, policy=remat_policy(self.remat))
    if self.apart:
      return self._one_by_one(layer, x, cache, start, stop)
    if cache is not None:
      return self._with_cache(layer, x, cache, start, stop)
    layers = nn.scan(
      layer,
      variable_axes={"params": 0},
      split_rngs={"params": True, lora.DROPOUT_STREAM: True},
      length=stop - start,
    )
    if (start, stop) != (0, self.depth):

      def of_range(params):
        return jax.tree.map(lambda stacked: stacked[start:stop], params)

      layers = nn.map_variables(layers, "params", trans_in_fn=of_range)
    return layers(self.layers, x, None)

  def _with_cache(self, layer, x, cache, start: int, stop: int):
    """Layers start..stop of stacked parameters, with one stacked cache.

    The loop carries the cache, because scanned in and out each layer's part would be copied. Each
    step takes its layer's parameters by number, because a slice of a range would be a copy of its
    weights for every token.
    """

    def body(block, carry, number):
      def of_layer(params):
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, start + number, 0, False), params)

      call = nn.map_variables(layer, "params", trans_in_fn=of_layer)
      x, (k, v) = carry
      x, part = call(block, x, LayerCache(k, v, number))
      return (x, (part.k, part.v)), None

    rngs: dict[Any, bool] = {"params": False, lora.DROPOUT_STREAM: True}
    length = stop - start
    layers = nn.scan(body, variable_broadcast="params", split_rngs=rngs, length=length)
    (x, cache), _ = layers(self.layers, (x, cache), jnp.arange(length))
    return x, cache

  def _one_by_one(self, layer, x, cache, start: int, stop: int):
    """Layers with parameters of their own, one after another."""
    keys = []
    values = []
    for number in range(start, stop):
      part = None
      if cache is not None:
        part = LayerCache(cache[0][number - start], cache[1][number - start])
      call = nn.map_variables(layer, "params", trans_in_fn=functools.partial(_of_one, number))
      x, part = call(self.layers, x, part)
      if part is not None:
        keys.append(part.k)
        values.append(part.v)
    return x, None if cache is None else (tuple(keys), tuple(values))

  def _gathered(self, params):
    return by_axis(self.dims, params, self.options["dtype"])

  def call_layer(self, layer: int, *args, **options):
    """Calls the block of one layer; no gradient reaches its parameters."""

    def of_layer(variables):
      if self.apart:
        return jax.tree.map(lax.stop_gradient, _of_one(layer, variables))
      return jax.tree.map(lambda stacked: lax.stop_gradient(stacked[layer]), variables)

    def call(block, *args):
      return block(*args, **options)

    call_one = nn.map_variables(call, "params", trans_in_fn=of_layer)
    return call_one(self.layers, *args)


def _of_one(number: int, variables: Mapping[str, Any]) -> dict[str, Any]:
  """The parameters of one of several layers apart."""
  return dict(params=variables["params"][str(number)])
