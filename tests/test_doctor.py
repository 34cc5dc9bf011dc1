# SPDX-License-Identifier: Apache-2.0
"""filax doctor: what is here, what is missing, and the command that helps."""

import importlib
import importlib.metadata
import json
import shutil

import jax
import pytest

from filax.cli import doctor, doctor_checks
from filax.cli.main import VERBS, main


@pytest.fixture
def metadata(monkeypatch):
  """Sets what filax requires."""

  def require(*requirements):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(requirements))

  return require


def test_the_report_knows_this_machine(capsys):
  code = main(["doctor", "--json"])
  report = json.loads(capsys.readouterr().out)
  assert code == (1 if report["problems"] else 0)
  names = {package["name"]: package["version"] for package in report["packages"]}
  assert names["jax"] == jax.__version__
  assert report["devices"][0]["count"] == jax.device_count()
  assert "h264" in report["video"]["reads"] and report["machine"]["cpus"] >= 1


def test_people_read_lines(capsys):
  main(["doctor"])
  out = capsys.readouterr().out
  assert out.startswith("FiLax ") and "\nDevices\n" in out and "\x1b" not in out


def test_a_missing_and_an_old_package_are_problems(metadata):
  metadata("numpy>=999", "no-such-package>=1", "av>=1")
  problems = doctor_checks.examine()["problems"]
  assert any("does not fit: pip install 'numpy>=999'" in problem for problem in problems)
  assert "no-such-package is missing: pip install 'no-such-package>=1'." in problems
  assert not any(problem.startswith("av ") for problem in problems)


@pytest.fixture
def not_installed(monkeypatch):
  def require(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "requires", require)


def test_a_checkout_that_is_not_installed_says_what_it_needs(not_installed):
  report = doctor_checks.examine()
  names = {package["name"]: package["version"] for package in report["packages"]}
  assert names["jax"] == jax.__version__ and "grain" in names
  assert {extra["name"] for extra in report["extras"]} == set(doctor_checks.EXTRAS)
  assert all("filax" not in extra["missing"] for extra in report["extras"])


def test_no_checkout_needs_no_packages(not_installed, tmp_path):
  assert doctor_checks.wanted_packages(tmp_path) == []


@pytest.mark.parametrize(
  ("error", "sentence"),
  [
    (ModuleNotFoundError("No module named 'x'", name="x"), "Training lacks x: pip install x."),
    (RuntimeError("bad\nABI"), "Training cannot be imported: bad ABI"),
  ],
)
def test_a_library_that_does_not_import_is_a_problem(error, sentence, monkeypatch):
  def import_module(name):
    if name == "filax.training":
      raise error

  monkeypatch.setattr(importlib, "import_module", import_module)
  assert sentence in doctor_checks.examine()["problems"]


def test_an_extra_names_its_command(metadata):
  metadata('no-such-package>=1; extra == "hub"', 'numpy; extra == "convert"')
  report = doctor_checks.examine()
  extras = {extra["name"]: extra for extra in report["extras"]}
  assert extras["hub"]["missing"] == ["no-such-package"] and extras["convert"]["missing"] == []
  assert "pip install 'filax[hub]'" in "\n".join(doctor.report_lines(report))


def test_devices_that_fail_are_a_problem(monkeypatch):
  def fail():
    raise RuntimeError("no\ndriver")

  monkeypatch.setattr(jax, "devices", fail)
  assert "jax finds no device: no driver" in doctor_checks.examine()["problems"]


def test_an_idle_gpu_is_a_problem(monkeypatch):
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
  problems = doctor_checks.examine()["problems"]
  assert "There is an NVIDIA GPU, but jax uses the CPU: pip install 'filax[gpu]'." in problems


def test_secrets_stay_secret(monkeypatch):
  monkeypatch.setenv("FILAX_API_KEY", "hidden")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  environment = doctor_checks.examine()["environment"]
  assert environment["FILAX_API_KEY"] == "(set)" and environment["JAX_PLATFORMS"] == "cpu"


def test_help_lists_it(capsys):
  main(["--help"])
  out = capsys.readouterr().out
  assert all(f"  {verb} " in out for verb in VERBS)
