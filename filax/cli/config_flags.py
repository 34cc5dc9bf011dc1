# SPDX-License-Identifier: Apache-2.0
"""`--config F[:args]` with overrides `--config.key=value`."""

from collections.abc import Mapping, Sequence
import itertools
import os
import re
import sys
import traceback
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from filax import placeholders, setting_kinds, settings, shipped_configs

_INVALID = (  # What absl says about a value of the wrong type -> what it should be.
  ("invalid literal for int", "a whole number"),
  ("could not convert string to float", "a number"),
  ("Non-boolean argument", "True or False"),
)
_FLAG = re.compile(r"--?([A-Za-z_][^=]*)(=.*)?", re.DOTALL)
_MODULE = "config_config"  # The name under which ml_collections imports the file of --config.


def read_config(argv: Sequence[str], **texts: str) -> tuple[ConfigDict, dict[str, str]]:
  """argv without the verb -> (the locked config, values of string flags).

  `texts` is flag -> its help; all of them and --config are required. If a flag occurs twice, the
  last one counts. Raises ValueError or OSError in one sentence for invalid flags and configs, and
  for values that filax.settings refuses.
  """
  shipped_configs.make_importable()
  _check_values(argv, {"config": "a config file", **texts})
  flag_values = flags.FlagValues()
  words = ["filax", *_with_shipped_config(last_of_each(argv))]
  config_flag = config_flags.DEFINE_config_file(
    "config", None, "A config file.", lock_config=True, flag_values=flag_values, sys_argv=words
  )
  for name, text in texts.items():
    flags.DEFINE_string(name, None, text, flag_values=flag_values)
  file = _config_file_of(words)
  sys.modules.pop(_MODULE, None)  # Otherwise a file keeps what the one before has defined.
  if file and not os.path.isfile(file):
    raise ValueError(
      f"There is no config {file}. Set --config to a Python file with a get_config(arg), such as "
      "configs/fila_stage4.py."
    )
  config, stray = _parse_flags(flag_values, config_flag, words, file)
  if stray:
    hint = ""
    if stray[0].lower() in ("true", "false"):
      hint = f" A setting is switched by --config.KEY={stray[0]}."
    raise ValueError(f"{stray[0]!r} is not understood. Options start with --.{hint}")
  values = flag_values.flag_values_dict()
  if not file:
    raise ValueError("--config is missing: a config file.")
  for name, text in texts.items():
    if not values[name]:
      raise ValueError(f"--{name} is missing: {text}.")
  if not isinstance(config, ConfigDict):
    raise ValueError(_no_config(file))
  settings.expand_home(config)
  settings.check_settings(config)
  settings.check_names(config)
  settings.check_complete(config)
  strings = {}
  for name in texts:
    strings[name] = values[name]
  return config, strings


def _no_config(file: str) -> str:
  return (
    f"--config {file} is not a config: it must have a get_config(arg) that returns a ConfigDict, "
    "as in configs/fila_stage4.py."
  )


def _check_values(words: Sequence[str], texts: Mapping[str, str]) -> None:
  """Raises ValueError for a flag that lacks its value.

  absl would take the next flag as the value. texts: flag -> its help.
  """
  for word, after in itertools.zip_longest(words, words[1:], fillvalue="--"):
    flag = _FLAG.fullmatch(word)
    if flag is None or flag[2] is not None or not after.startswith("--"):
      continue
    setting = settings.TABLE.get(flag[1].removeprefix("config."))
    text = texts.get(flag[1], "")
    if flag[1].startswith("config.") and setting not in (None, setting_kinds.FLAG):
      text = setting.words
    if text:
      raise ValueError(f"--{flag[1]} is missing its value: {text}. Write --{flag[1]}=VALUE.")


def _parse_flags(
  flag_values: flags.FlagValues, config_flag: flags.FlagHolder, words: Sequence[str], file: str
) -> tuple[Any, list[str]]:
  """(value of --config, words that are not flags).

  file: that of --config. Raises ValueError, also for what the config itself raises.
  """
  try:
    stray = flag_values(words)[1:]
    return config_flag.value, stray
  except flags.Error as error:
    raise ValueError(_flag_error(error)) from error
  except SyntaxError as error:
    raise ValueError(f"The config is not Python: {error}.") from error
  except Exception as error:
    line = _line_of_config(error, file)
    if line:
      kind = type(error).__name__
      raise ValueError(
        f"The config {file} fails in line {line}: {kind}: {error}{_configs_hint(error)}"
      ) from error
    if "'get_config'" in str(error) or "FrozenConfigDict" in str(error):
      raise ValueError(_no_config(file)) from error
    _check_overrides(words)
    if not isinstance(error, AttributeError | KeyError | TypeError):
      raise
    raise ValueError(_unknown_key(error, words)) from error


def _configs_hint(error: Exception) -> str:
  """What helps a config that expects more of `configs`."""
  module = getattr(error, "obj", None)  # Of an AttributeError.
  name = getattr(module, "__name__", getattr(error, "name", None))
  if str(name).partition(".")[0] != "configs":
    return ""
  return (
    f" ({getattr(module, '__file__', 'not found')}). The configs of FiLax are the package "
    "filax.configs; a package of your own is found if its folder is on PYTHONPATH."
  )


def _flag_error(error: flags.Error) -> str:
  """The sentence for an unknown flag, or an invalid value.

  Raises it as a ValueError if filax.settings has a better one.
  """
  # An error of the config itself comes as a traceback, whose last line counts.
  text = str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
  if isinstance(error, flags.UnrecognizedFlagError) and "Did you mean" not in text:
    text += f". The settings of a config are set as --config.{error.flagname}=VALUE."
  flag, _, reason = text.removeprefix("flag --").partition(": ")
  for beginning, kind in _INVALID:
    if beginning in reason:
      return f"{flag} cannot be used. Set it to {kind}."
  name, _, value = flag.removeprefix("config.").partition("=")
  *groups, last = name.split(".")
  given: dict[str, Any] = {last: value}
  for group in reversed(groups):
    given = {group: given}
  settings.check_settings(given)
  return text


def _unknown_key(error: Exception, words: Sequence[str]) -> str:
  """The sentence for a flag whose key the config does not have."""
  text = " ".join(str(error).replace("\\n", " ").replace("\\", "").replace("'", "").split())
  key, _, hint = text.partition(" ")
  key = key.strip('"')
  flag = key
  for word in words:
    name = word.partition("=")[0].lstrip("-")
    if name.startswith("config.") and key in name.split("."):
      flag = name
  if not hint.startswith("Did you mean"):
    hint = "`filax show` prints all keys."
  group = flag.rpartition(".")[0]
  if f"{group}.name".removeprefix("config.") in settings.TABLE:
    hint += f""" Keys of another component are set with its name: --{group}="{{'name': …}}"."""
  return f"There is no such config key: {flag}. {hint}"


def _check_overrides(words: Sequence[str]) -> None:
  """Raises ValueError for a setting without a value.

  Also for a flag that sets a part of a setting.

  words: those of a command with a config that can be read without its overrides.
  """
  overrides = [word for word in words if re.match("--?config[.]", word)]
  others = [word for word in words if word not in overrides]
  flag_values = flags.FlagValues()
  config_flag = config_flags.DEFINE_config_file(
    "config", None, lock_config=False, flag_values=flag_values, sys_argv=others
  )
  flag_values(others, known_only=True)
  placeholders.check_all_set(config_flag.value)
  for word in overrides:
    _check_whole(config_flag.value, word.partition("=")[0])


def _check_whole(config: ConfigDict, flag: str) -> None:
  """Raises ValueError for a flag that names no whole setting.

  flag: "--config.data.train", for example. Names that the config lacks are not looked at.
  """
  _, *keys = re.split(r"[.\[]", flag)
  if not all(re.fullmatch(r"\w+]?", key) for key in keys):
    raise ValueError(f"{flag} is not the name of a setting, such as --config.data.train.")
  setting = config
  name = "config"
  for key in keys:
    if not isinstance(setting, ConfigDict):
      raise ValueError(
        f"{flag} sets a part of {name}={setting!r}, which can only be set as a whole: "
        f"--{name}=VALUE."
      )
    if key not in setting:
      return
    setting = setting[key]
    name += f".{key}"


def _line_of_config(error: Exception, file: str) -> int:
  """The line of the config that raised an error, or 0."""
  line = 0
  for frame in traceback.extract_tb(error.__traceback__):
    if file and os.path.abspath(frame.filename) == os.path.abspath(file):
      line = frame.lineno or 0
  return line


def _config_file_of(words: Sequence[str]) -> str:
  """The file of the last --config, without its arguments; "" without one."""
  file = ""
  for before, word in itertools.pairwise(words):
    flag, equals, value = word.partition("=")
    if flag in ("--config", "-config") and equals:
      file = value
    elif before in ("--config", "-config"):
      file = word
  return file.partition(":")[0]


def _with_shipped_config(argv: Sequence[str]) -> list[str]:
  """argv with a shipped config for a --config that is not a file."""
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
  name, colon, arguments = settings.with_home(text).partition(":")
  if not name:
    return text
  return f"{shipped_configs.find_file(name)}{colon}{arguments}"


def last_of_each(argv: Sequence[str]) -> list[str]:
  """argv with the last occurrence of every flag only.

  Without this, ml_collections joins the values of a tuple that is set twice.
  """
  items: dict[str, list[str]] = {}
  position = 0
  while position < len(argv):
    words = list(argv[position : position + 2])
    flag = _FLAG.fullmatch(words[0])
    if flag is None:
      name = f"{position}"  # No flag: kept, for the message about it.
    else:
      name = flag[1]
    takes_next = flag is not None and flag[2] is None  # --flag value
    if not takes_next or _FLAG.fullmatch(words[-1]) is not None:
      words = words[:1]
    items.pop(name, None)
    items[name] = words
    position += len(words)
  return list(itertools.chain.from_iterable(items.values()))
