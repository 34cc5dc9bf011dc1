# SPDX-License-Identifier: Apache-2.0
"""Tables of documents list what the code has: names that are missing, and names that are gone."""

from collections.abc import Iterable, Iterator, Mapping
import fnmatch
import pathlib
import re

from document_blocks import DOCUMENTS
import pytest

from data_pipelines.packing.frame_sampling import PHASES, SAMPLERS
from data_pipelines.synthesis.sources.registry import all_sources
from data_pipelines.text.choices import LETTERS
from docs.generators.setting_meanings import OTHER_WORDS
from filax.cli.convert import PEFT
from filax.convert.formats import FORMATS
from filax.evals import result_fields
from filax.evals.registry import MANIFEST, all_benchmarks
from filax.models.components import available
from filax.models.layers import REMAT
from filax.serve import app
from filax.settings import TABLE
from filax.train import goodput, metrics
from filax.train.hooks import Hook
from filax.train.trackers import TRACKERS

ROOT = pathlib.Path(__file__).parents[1]
ROLES = ("encoder", "selector", "merger", "projector", "llm")
WITH_ALL_FILES = (
  *("filax/train", "filax/serve", "filax/convert", "filax/infer", "data_pipelines"),
  *(f"data_pipelines/{name}" for name in ("manifest", "media", "packing", "synthesis")),
)
NAME = re.compile(r"`([^`\n]+)`")


def read(document: str) -> str:
  return (ROOT / document).read_text()


def table(document: str, head: str) -> list[list[str]]:
  """The cells of the table whose first line begins with `head`."""
  rows = []
  behind = read(document).partition(f"\n| {head}")[2]
  assert behind, f"{document} has no table that begins with {head!r}"
  for line in behind.splitlines()[1:]:
    if not line.startswith("|"):
      break
    cells = re.split(r"(?<!\\)\|", line)[1:-1]
    rows.append([cell.strip() for cell in cells])
  return rows[1:]  # Without the line below the head.


def names(cells: Iterable[str]) -> list[str]:
  """The names in backticks of some cells."""
  return [name for cell in cells for name in NAME.findall(cell)]


def first_names(document: str, head: str) -> list[str]:
  return names(row[0] for row in table(document, head))


def test_phases_of_a_run():
  assert set(first_names("filax/train/README.md", "phase |")) == set(goodput.PHASES)


def test_recomputation_policies():
  listed = first_names("filax/train/README.md", "`remat` |")
  assert set(listed) == REMAT.keys() - {"auto"}


def test_methods_of_a_hook():
  listed = [
    name.partition("(")[0] for name in first_names("filax/train/README.md", "method | when")
  ]
  methods = [name for name in vars(Hook) if not name.startswith("_")]
  assert set(listed) == set(methods)


def test_trackers():
  assert set(first_names("filax/train/README.md", "name | install")) == TRACKERS.keys()


def test_keys_of_metrics():
  of_a_step: Mapping[str, float] = dict.fromkeys(
    ("loss", "accuracy", "grad_norm", "padding", "lr/llm", *metrics.SUMS), 1.0
  )
  meter = metrics.Meter(10, None, None, metrics.Compilations())
  meter.count_step(of_a_step)
  record = meter.record(1, of_a_step) | {"host/…": 0.0, "seconds/…": 0.0, "goodput": 0.0}
  listed = first_names("filax/train/README.md", "key | meaning")
  assert {name.replace("lr/PART", "lr/llm") for name in listed} == record.keys()


@pytest.mark.parametrize("role", ROLES)
def test_components(role):
  group = ""
  listed = set()
  for cells in table("configs/README.md", "group |"):
    group = (names(cells[:1]) or [group])[0]
    if group == role:
      listed |= set(names(cells[1:2]))
  assert listed == set(available(role))


def test_configs():
  listed = first_names("configs/README.md", "file | what it trains")
  assert set(listed) == config_files("configs", "common")


def test_studies():
  listed = first_names("docs/evidence.md", "study | paper")
  assert {f"{name}.py" for name in listed} == config_files(
    "configs/studies", "common", "small", "large"
  )


def config_files(folder: str, *others: str) -> set[str]:
  """The names of the configs in a folder; `others` are shared by them."""
  stems = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__", *others}
  return {f"{stem}.py" for stem in stems}


def test_frame_sampling():
  assert first_names("configs/README.md", "`name` | number of frames") == list(SAMPLERS)
  assert first_names("configs/README.md", "`phase` |") == list(PHASES)


@pytest.mark.parametrize(
  ("head", "key", "name"),
  [
    ("key of `config.data` | value | meaning", "template", "data.template"),
    ("key of `config.data` | value | meaning", "labels", "data.labels"),
    ("key of `config.data` | value | meaning", "time_prompt", "data.time_prompt"),
    ("key of `config.data` | value | how pictures", "resize", "data.resize"),
    ("key of `config.data` | value | how pictures", "images.mode", "data.images.mode"),
  ],
)
def test_values_of_a_setting(head, key, name):
  group = ""
  listed: list[str] = []
  for cells in table("configs/README.md", head):
    group = (names(cells[:1]) or [group])[0]
    if group == key:
      listed += names(cells[1:2])
  assert set(listed) == set(TABLE[name].words.removeprefix("one of ").split(", "))


def test_formats_of_exports():
  assert set(first_names("filax/convert/README.md", "`--format` |")) == {*FORMATS, *PEFT}


def benchmark_rows() -> Iterator[tuple[str, list[str]]]:
  """(names in a row, protocols) of the table of benchmarks."""
  for cells in table("filax/evals/README.md", "benchmark | files"):
    for name in names(cells[:1]):
      yield name, re.findall(r"[a-z][\w.-]*", cells[2])


def test_benchmarks():
  benchmarks = all_benchmarks()
  del benchmarks[MANIFEST]
  listed = dict(benchmark_rows())
  assert listed.keys() == benchmarks.keys()
  for name, benchmark in benchmarks.items():
    assert set(benchmark.protocols) <= set(listed[name]), name


def test_keys_of_a_result():
  text = read("filax/evals/README.md").partition("**result.json**")[2]
  text = text.partition("**A line of answers.jsonl**")[0]
  keys = {"schema", *result_fields.REQUIRED, *result_fields.OPTIONAL}
  assert keys - set(NAME.findall(text)) == set()


def test_sources_of_long_videos():
  listed = first_names("data_pipelines/synthesis/README.md", "source | files")
  assert set(listed) == all_sources().keys()


def test_number_of_options():
  words = ("zero one two three four five six seven eight nine ten eleven twelve").split()
  assert f"two to {words[len(LETTERS)]} texts" in read("data_pipelines/manifest/README.md")


def test_routes_of_the_server():
  source = pathlib.Path(app.__file__).read_text()
  source += pathlib.Path(app.__file__).with_name("live_routes.py").read_text()
  routes = re.findall(r'\("(GET|POST|DELETE)", "([^"]+)"', source)
  assert len(routes) > 10
  listed = set(first_names("docs/serving.md", "route |"))
  for method, path in routes:
    plain = path.replace("{name:path}", "NAME")
    plain = re.sub(r"\{\w+\}", "ID", plain)
    assert f"{method} {plain}" in listed


def test_files_beside_the_folders():
  text = read("docs/architecture.md")
  files = [path.name for path in (ROOT / "filax").glob("*.py") if not path.name.startswith("__")]
  assert [name for name in files if f"`filax/{name}`" not in text] == []


@pytest.mark.parametrize("folder", WITH_ALL_FILES)
def test_what_lives_in_a_folder(folder):
  text = read(f"{folder}/README.md")
  patterns = re.findall(r"`(?:[\w/]*/)?([\w*]+\.py)`", text)
  missing = []
  for path in (ROOT / folder).glob("*.py"):
    is_listed = any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
    if path.name != "__init__.py" and not is_listed:
      missing.append(path.name)
  assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_settings_exist(document):
  """Every config.KEY in a document is a setting, or a group of settings."""
  known = {"json", "py", "a.b", "my_lab", *OTHER_WORDS}  # Files; examples.
  for name in TABLE:
    parts = name.split(".")
    known |= {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
  named = re.findall(r"\bconfig\.([a-z]\w*(?:\.[a-z]\w*)*)", read(str(document)))
  assert [name for name in sorted(set(named)) if name not in known] == []


def test_environment_variables():
  sources = [*(ROOT / "filax").rglob("*.py"), *(ROOT / "data_pipelines").rglob("*.py")]
  sources += (ROOT / "plugins").rglob("*.py")
  sources.append(ROOT / "launch/tpu_vm.sh")
  used = set()
  for path in sources:
    used |= set(re.findall(r"\bFILAX_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
  assert len(used) > 15
  text = read("docs/environment.md") + read("filax/evals/README.md")
  assert [name for name in sorted(used) if f"`{name}" not in text] == []
