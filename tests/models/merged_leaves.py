# SPDX-License-Identifier: Apache-2.0
"""Parameters whose adapters are merged into their kernels, in memory."""

from filax.models import lora


def merge_leaves(leaves):
  """Leaves by path, adapters merged into their kernels and removed."""
  merged = {path: leaf for path, leaf in leaves.items() if not lora.is_adapter(path)}
  for kernel in lora.adapted_kernels(leaves):
    a, b, scale = (leaves[lora.adapter_name(kernel, name)] for name in lora.NAMES)
    merged[kernel] = lora.merge_kernel(leaves[kernel], a, b, scale)
  return merged
