# SPDX-License-Identifier: Apache-2.0
"""The checks of `filax doctor`."""

import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import re
import shutil
import tomllib
from typing import Any

from packaging.requirements import Requirement

EXTRAS = {  # Extra -> what needs it.
  "tpu": "training and answering on TPUs",
  "gpu": "training and answering on NVIDIA GPUs",
  "gcs": "runs and data in gs:// buckets",
  "s3": "runs and data in s3:// buckets",
  "convert": "filax convert from PyTorch's *.bin and *.pt files",
  "gguf": "filax convert and chat with GGUF files",
  "qlora": "config.lora.base and --quantise",
  "beam": "data builds on a cluster",
  "serve": "filax serve",
  "demo": "the web page of filax serve",
  "hub": "filax push --yes",
  "wandb": 'config.trackers=("wandb",)',
  "trackio": 'config.trackers=("trackio",)',
  "benchmarks": "python -m benchmarks",
}
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "prores")
_CHECKOUT = pathlib.Path(__file__).parents[2]
_PARTS = {  # Module -> what it is for.
  "filax.infer.session": "Answering",
  "filax.training": "Training",
  "grain": "The loader of training",  # Imported only when it is used.
}
_VARIABLES = ("FILAX_", "JAX_", "XLA_", "LIBTPU_", "CUDA_VISIBLE", "TPU_", "HF_ENDPOINT")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.I)


def examine() -> dict[str, Any]:
  """Everything that `filax doctor` reports."""
  packages, extras = _requirements()
  devices, device_problem = _devices()
  video = _video()
  problems = []
  for package in packages:
    if not package["version"]:
      problems.append(f"{package['name']} is missing: pip install '{package['needs']}'.")
    elif not package["fits"]:
      problems.append(
        f"{package['name']} {package['version']} does not fit: pip install '{package['needs']}'."
      )
  problems += _import_problems()
  problems += filter(None, (device_problem, _accelerator_problem(devices)))
  if "h264" in video["lacks"]:
    problems.append("PyAV has no H.264 decoder, so most videos cannot be read: pip install av.")
  return dict(
    filax=_version("filax") or "not installed",
    python=platform.python_version(),
    platform=platform.platform(),
    packages=packages,
    devices=devices,
    machine=_machine(),
    compilation_cache=_compilation_cache(),
    video=video,
    extras=extras,
    environment=_environment(),
    problems=problems,
  )


def _requirements() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """(required packages with their versions, extras with what they lack)."""
  packages = []
  lacking: dict[str, list[str]] = {name: [] for name in EXTRAS}
  described = set()
  for text in wanted_packages():
    requirement = Requirement(text)
    if requirement.name == "filax":  # An extra that is a part of this one.
      continue
    marker = requirement.marker
    if marker is None or marker.evaluate({"extra": ""}):
      packages.append(_package(requirement))
      continue
    for name in EXTRAS:
      if marker.evaluate({"extra": name}):
        described.add(name)
        if not _package(requirement)["fits"]:
          lacking[name].append(requirement.name)
        lacking[name] += _missing_plugins(requirement)
  extras = []
  for name, serves in EXTRAS.items():
    if name in described:
      install = f"pip install 'filax[{name}]'"
      extras.append(dict(name=name, serves=serves, missing=lacking[name], install=install))
  return packages, extras


def wanted_packages(checkout: pathlib.Path = _CHECKOUT) -> list[str]:
  """What FiLax needs: as installed, or as its checkout says."""
  try:
    return importlib.metadata.requires("filax") or []
  except importlib.metadata.PackageNotFoundError:
    pass
  if not (checkout / "requirements.txt").exists():
    return []
  lines = (checkout / "requirements.txt").read_text().splitlines()
  wanted = [line for line in lines if line and not line.startswith("#")]
  project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
  for extra, requirements in project["optional-dependencies"].items():
    for text in requirements:
      name, _, marker = map(str.strip, text.partition(";"))
      of_extra = f'extra == "{extra}"'
      wanted.append(f"{name}; {marker} and {of_extra}" if marker else f"{name}; {of_extra}")
  return wanted


def _import_problems() -> list[str]:
  """A sentence for each part of FiLax that cannot be imported."""
  problems = []
  for name, serves in _PARTS.items():
    try:
      importlib.import_module(name)
    except ModuleNotFoundError as error:
      problems.append(f"{serves} lacks {error.name}: pip install {error.name}.")
    except Exception as error:  # Libraries that do not fit one another fail in every way.
      reason = " ".join(str(error).split()) or type(error).__name__
      problems.append(f"{serves} cannot be imported: {reason}")
  return problems


def _missing_plugins(requirement: Requirement) -> list[str]:
  """What an extra of jax itself would install and is not here."""
  plugins = {"tpu": "libtpu", "cuda13": "jax-cuda13-plugin"}
  names = [plugins[extra] for extra in requirement.extras if extra in plugins]
  return [name for name in names if not _version(name)]


def _package(requirement: Requirement) -> dict[str, Any]:
  version = _version(requirement.name)
  fits = bool(version) and requirement.specifier.contains(version, prereleases=True)
  return dict(
    name=requirement.name,
    version=version,
    needs=f"{requirement.name}{requirement.specifier}",
    fits=fits,
  )


def _version(name: str) -> str:
  """The version of an installed package, "" if it is missing."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return ""


def _devices() -> tuple[list[dict[str, Any]], str]:
  """(devices by kind, a sentence if jax finds none)."""
  try:
    import jax

    devices = jax.devices()
  except Exception as error:  # Drivers fail in every way; the report says how.
    reason = " ".join(str(error).split()) or type(error).__name__
    return [], f"jax finds no device: {reason}"
  by_kind: dict[str, dict[str, Any]] = {}
  for device in devices:
    memory = (device.memory_stats() or {}).get("bytes_limit")
    entry = by_kind.setdefault(
      device.device_kind,
      dict(kind=device.device_kind, platform=device.platform, count=0, memory=memory),
    )
    entry["count"] += 1
  return list(by_kind.values()), ""


def _accelerator_problem(devices: list[dict[str, Any]]) -> str:
  """A sentence about an accelerator that jax does not use."""
  platforms = {device["platform"] for device in devices}
  if platforms != {"cpu"} or os.environ.get("JAX_PLATFORMS") == "cpu":
    return ""
  if shutil.which("nvidia-smi"):
    return "There is an NVIDIA GPU, but jax uses the CPU: pip install 'filax[gpu]'."
  if os.path.exists("/dev/accel0") or os.path.exists("/dev/vfio/0"):
    return "There is a TPU, but jax uses the CPU: pip install 'filax[tpu]'."
  return ""


def _machine() -> dict[str, Any]:
  from filax import host_limits

  return dict(
    cpus=host_limits.usable_cpus(),
    memory=host_limits.usable_memory(),
    free_disk=shutil.disk_usage(".").free,
  )


def _compilation_cache() -> dict[str, Any]:
  """Where compiled programs are kept, and how much they take."""
  import jax

  from filax import compilation_cache

  try:
    compilation_cache.enable()
  except ValueError as error:
    return dict(folder="", programs=0, bytes=0, words=str(error))
  folder = jax.config.values["jax_compilation_cache_dir"]
  if folder is None:
    return dict(folder="", programs=0, bytes=0, words="not kept")
  sizes = []
  if os.path.isdir(folder):
    with os.scandir(folder) as entries:
      sizes = [entry.stat().st_size for entry in entries if entry.is_file()]
  words = f"{len(sizes)} files, {sum(sizes) / 1e6:,.0f} MB in {folder}"
  return dict(folder=folder, programs=len(sizes), bytes=sum(sizes), words=words)


def _video() -> dict[str, Any]:
  """PyAV, the libraries of FFmpeg in it, and the usual codecs."""
  try:
    import av
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError
  except ImportError as error:
    return dict(av=f"missing ({error})", libraries={}, reads=[], lacks=list(DECODERS), ffmpeg=None)
  reads = []
  for name in DECODERS:
    try:
      Codec(name, "r")
    except UnknownCodecError:
      continue
    reads.append(name)
  libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
  return dict(
    av=av.__version__,
    libraries=libraries,
    reads=reads,
    lacks=[name for name in DECODERS if name not in reads],
    ffmpeg=shutil.which("ffmpeg"),
  )


def _environment() -> dict[str, str]:
  """Variables that change how FiLax and jax run, without secrets."""
  variables = {}
  for name, value in sorted(os.environ.items()):
    if name.startswith(_VARIABLES):
      variables[name] = "(set)" if _SECRET.search(name) else value
  return variables
