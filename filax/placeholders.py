# SPDX-License-Identifier: Apache-2.0
"""Settings that a config leaves to whoever uses it: required_placeholder of ml_collections."""

from collections.abc import Iterator
import contextlib

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import RequiredValueError


def lock(config: ConfigDict) -> None:
  """Locks a config, also if some settings are not set yet."""
  for value in config.values(preserve_field_references=True):
    if isinstance(value, ConfigDict):
      lock(value)
  with contextlib.suppress(RequiredValueError):  # It is locked by then.
    config.lock()


def check_all_set(config: ConfigDict) -> None:
  """Raises ValueError naming the settings that are not set yet."""
  names = list(_unset(config, "config"))
  if names:
    raise ValueError(
      f"The config leaves {' and '.join(names)} open (required_placeholder). From Python, set "
      f"{names[0]} = VALUE before the training. For a command, give it a default, which "
      f"--{names[0]}=VALUE changes, or make it an argument of get_config."
    )


def _unset(config: ConfigDict, path: str) -> Iterator[str]:
  for key, value in config.items(preserve_field_references=True):
    name = f"{path}.{key}"
    if isinstance(value, ConfigDict):
      yield from _unset(value, name)
    elif isinstance(value, FieldReference):
      try:
        value.get()
      except RequiredValueError:
        yield name
