# SPDX-License-Identifier: Apache-2.0
"""One of several processes: prints how many there are, and which GPUs of its node it may use."""

import jax

from filax.parallel import distributed

distributed.start()
print(jax.process_count(), jax.config.values["jax_cuda_visible_devices"])
