# SPDX-License-Identifier: Apache-2.0
"""Exit codes of commands, and user errors as one sentence."""

from collections.abc import Callable, Sequence
import errno
import io
import os
import select
import sys

from filax.cli import backend_errors, interrupts
from filax.cli.terminal import without_controls
from filax.disk_errors import disk_sentence, is_disk_full
from filax.memory_errors import is_out_of_memory, memory_sentence

BROKEN_PIPE = 141  # The code in a shell of a program that SIGPIPE ended: 128 + 13.
_TEXT_FLAGS = ("--question",)  # Their values are for the model, whatever they begin with.


def run_verb(main: Callable[[Sequence[str]], int | None], argv: Sequence[str], verb: str) -> int:
  """Runs main(argv); returns its exit code, or 2 after a user error.

  User errors are ValueError, OSError, too little memory, a full disk and a missing device, printed
  without a traceback. A path that begins with ~ is below the home folder, also behind "=", where
  shells leave it. If the reader of the output stops (`filax show ... | head`), the command ends
  without a message. FILAX_DEBUG=1 lets the traceback of a user error through.
  """
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")  # A name is shown, whatever the locale.
  try:
    with interrupts.heard():
      code = main(with_home(argv)) or 0
    if sys.stdout is not None:  # It is None if the command was started with a closed output.
      sys.stdout.flush()
    return code
  except BrokenPipeError as error:
    if not _output_is_closed():
      print(f"filax {verb}: {sentence(error)}", file=sys.stderr)
      return 2
    return BROKEN_PIPE
  except (ValueError, OSError, RuntimeError, MemoryError, AssertionError) as error:
    is_users = isinstance(error, ValueError | OSError) or is_out_of_memory(error)
    is_users = is_users or is_disk_full(error) or backend_errors.is_without_backend(error)
    if not is_users or os.environ.get("FILAX_DEBUG"):
      raise
    print(f"filax {verb}: {sentence(error)}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"filax {verb}: stopped.", file=sys.stderr)
    return 130


def sentence(error: Exception) -> str:
  """What a user error says, in one line.

  It may name files of others, whose names may hold anything.
  """
  return without_controls(_sentence(error))


def _sentence(error: Exception) -> str:
  if is_out_of_memory(error):
    return memory_sentence(error)
  if backend_errors.is_without_backend(error):
    return backend_errors.backend_sentence(error)
  if is_disk_full(error) and not _is_a_sentence(error):
    return disk_sentence(error)
  text = " ".join(str(error).split()) or type(error).__name__
  if not isinstance(error, OSError) or not error.strerror:
    return text
  if error.filename is not None:
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return f"{name}: {error.strerror}."
  if error.errno == errno.ENOENT and not _has_working_folder():
    return "The folder that this command was started in was removed. Change to another folder."
  return text


def _is_a_sentence(error: Exception) -> bool:
  """Whether FiLax worded an error, as a failed save.

  Python's own OSErrors have a number, and libraries raise RuntimeError.
  """
  return isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is None)


def _has_working_folder() -> bool:
  try:
    os.getcwd()
  except OSError:
    return False
  return True


def with_home(argv: Sequence[str]) -> list[str]:
  """argv with every leading ~ of a path expanded."""
  words = []
  before = ""
  for word in argv:
    name, equals, value = word.partition("=")
    if name in _TEXT_FLAGS or before in _TEXT_FLAGS:
      words.append(word)
    elif word.startswith("--") and equals:
      words.append(f"{name}={os.path.expanduser(value)}")
    else:
      words.append(os.path.expanduser(word))
    before = word
  return words


def _output_is_closed() -> bool:
  """Whether standard output is a closed pipe; if so, silences it."""
  try:
    output = sys.stdout.fileno()
  except (AttributeError, OSError, ValueError):  # Not a file, or closed.
    return False
  poll = select.poll()
  poll.register(output, select.POLLOUT)
  if not any(events & select.POLLERR for _, events in poll.poll(0)):
    return False
  # Python flushes once more at its end and would complain.
  os.dup2(os.open(os.devnull, os.O_WRONLY), output)
  return True
