# SPDX-License-Identifier: Apache-2.0
"""One of several processes: compares its parts, which argv[1] makes different in the last one."""

import sys

import jax

from filax.parallel import agreement, distributed, ending

distributed.start()
last = jax.process_index() == jax.process_count() - 1
parts = {
  "config": {"config.seed": "0", "config.batch": "4"},
  "media": {f"video{n}.mp4": f"frames={n}" for n in range(20_000)},
  "plan": {"fingerprint": "abc"},
}
if last and sys.argv[1] == "media":
  del parts["media"]["video7.mp4"]
  parts["media"]["video12345.mp4"] = "cannot be read"
  parts["plan"] = {"fingerprint": "def"}
if last and sys.argv[1] == "config":
  parts["config"] = parts["config"] | {"config.seed": "1"}
with ending.together():
  for _ in range(2):
    agreement.require_equal(parts)
print("agreed")
