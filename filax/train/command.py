# SPDX-License-Identifier: Apache-2.0
"""`--config F[:args]` with `--config.key=value` overrides, as every command that takes a config."""

from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags


def read(argv: Sequence[str], **texts: str) -> tuple[ConfigDict, dict[str, str]]:
  """argv without the verb -> (the locked config, the values of the string flags named in `texts`).

  `texts` is flag -> what it is for; all of them and --config are required. Raises ValueError or
  OSError in one sentence for whatever does not fit.
  """
  values = flags.FlagValues()
  known = ["filax", *argv]
  config = config_flags.DEFINE_config_file(
    "config", None, "A config file.", lock_config=True, flag_values=values, sys_argv=known)
  for name, text in texts.items():
    flags.DEFINE_string(name, None, text, flag_values=values)
  try:
    stray = values(known)[1:]
    found = config.value
  except flags.Error as error:  # A config's own error comes as a traceback; its last line counts.
    raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from error
  except (AttributeError, KeyError, TypeError) as error:
    text = " ".join(str(error).replace("\\n", " ").replace("\\", "").replace("'", "").split())
    raise ValueError(f"There is no such config key: {text}") from error
  except SyntaxError as error:
    raise ValueError(f"The config is not Python: {error}.") from error
  if stray:
    raise ValueError(f"{stray[0]!r} is not understood. Options start with --.")
  for name in ("config", *texts):
    if values[name].value is None:
      raise ValueError(f"--{name} is missing: {texts.get(name, 'a config file')}.")
  if not isinstance(found, ConfigDict):
    raise ValueError(
      "--config is not a config file: it must exist and have a get_config(arg) that returns a "
      "ConfigDict, such as configs/fila_stage4.py.")
  return found, {name: values[name].value for name in texts}
