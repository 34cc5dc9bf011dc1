# SPDX-License-Identifier: Apache-2.0
"""One of two processes of a row, one for each half of the axis tensor: prints what it supervises.

The second one could not decode the row's media.
"""

import jax
import numpy as np

from filax.parallel import distributed
from filax.parallel import mesh as mesh_lib
from filax.testing import row_source
from filax.train import batches

distributed.start()
batch = row_source.random_batch(1)
if jax.process_index() == 1:
  batch["loss_mask"] = np.zeros_like(batch["loss_mask"])
  batch["num_bad"] = batch["num_bad"] + 1
mesh = mesh_lib.make_mesh(dict(data=1, fsdp=1, seq=1, tensor=-1))
placed = batches.place_batch(batch, mesh)
for key in ("loss_mask", "num_bad"):
  print(key, np.asarray(placed[key].addressable_shards[0].data).sum())
