# SPDX-License-Identifier: Apache-2.0
"""Work that the processes of a run leave together once one of them is asked to stop.

jax.distributed listens to SIGTERM on every process and writes a notice to the common store. The
processes read it at slightly different times, so they tell each other what they have seen.
"""

import json

from filax.parallel import agreement, key_value

NOTICE = "RECEIVED_PREEMPTION_NOTICE"  # The key that jax sets when a process got a signal.


class Interrupted(KeyboardInterrupt):
  """A signal came before the first step, or ended a block."""


def is_noticed() -> bool:
  """Whether some process of the run has been asked to stop."""
  return key_value.connected() and key_value.get(NOTICE) is not None


def share_texts_or_stop(text: str) -> list[str]:
  """The texts of all processes, as agreement.share_texts.

  Raises Interrupted, on all processes in the same call, if one of them was asked to stop.
  """
  shared = agreement.share_texts(json.dumps([is_noticed(), text]))
  by_process = list(map(json.loads, shared))
  if any(noticed for noticed, _ in by_process):
    raise Interrupted("A process of the run was asked to stop.")
  return [text for _, text in by_process]
