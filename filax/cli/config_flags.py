# SPDX-License-Identifier: Apache-2.0
"""`--config F[:args]` with `--config.key=value` overrides, as every command that takes a config."""

from collections.abc import Sequence
import os
import re

from absl import flags
from ml_collections import ConfigDict, config_flags

from filax import settings, shipped_configs

_FLAG = re.compile(r"--?([A-Za-z_][^=]*)(=.*)?", re.DOTALL)


def read(argv: Sequence[str], **texts: str) -> tuple[ConfigDict, dict[str, str]]:
  """argv without the verb -> (the locked config, the values of the string flags named in `texts`).

  `texts` is flag -> what it is for; all of them and --config are required. Of a flag that is given
  twice the last one counts. Raises ValueError or OSError in one sentence for whatever does not fit,
  values that filax.settings refuses among them.
  """
  shipped_configs.make_importable()
  values = flags.FlagValues()
  known = ["filax", *_with_shipped_config(last_of_each(argv))]
  config = config_flags.DEFINE_config_file(
    "config", None, "A config file.", lock_config=True, flag_values=values, sys_argv=known
  )
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
      "ConfigDict, such as configs/fila_stage4.py."
    )
  _expand_home(found)
  settings.check(found)
  return found, {name: values[name].value for name in texts}


def _with_shipped_config(argv: Sequence[str]) -> list[str]:
  """argv where --config names a file: one that FiLax ships if there is no such file here."""
  words = []
  before = ""
  for word in argv:
    flag, equals, value = word.partition("=")
    if flag.lstrip("-") == "config" and equals:
      words.append(f"{flag}={_config_file(value)}")
    elif before.lstrip("-") == "config" and "=" not in before:
      words.append(_config_file(word))
    else:
      words.append(word)
    before = word
  return words


def _config_file(text: str) -> str:
  """ "F:args" with the file that F stands for."""
  name, colon, arguments = text.partition(":")
  return f"{shipped_configs.find_file(name)}{colon}{arguments}"


def _expand_home(config: ConfigDict) -> None:
  """Puts the home folder in place of the ~ that begins a path, in every value of `config`."""
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      _expand_home(value)
    elif isinstance(value, (str, tuple)):
      config[key] = _with_home(value)


def _with_home(value):
  if isinstance(value, tuple):
    return tuple(_with_home(item) for item in value)
  if isinstance(value, str) and value.startswith("~/"):
    return os.path.expanduser(value)
  return value


def last_of_each(argv: Sequence[str]) -> list[str]:
  """argv where every flag is given once: as it was given last.

  Without this, ml_collections joins the values of a tuple that is set twice.
  """
  items: dict[str, list[str]] = {}
  position = 0
  while position < len(argv):
    count = 1
    match = _FLAG.fullmatch(argv[position])
    if match is None:
      name = f"{position}"  # No flag: kept, for the message about it.
    else:
      name = match[1]
      if match[2] is None and argv[position + 1 :] and _FLAG.fullmatch(argv[position + 1]) is None:
        count = 2  # --flag value
    items.pop(name, None)
    items[name] = list(argv[position : position + count])
    position += count
  return [word for words in items.values() for word in words]
