# SPDX-License-Identifier: Apache-2.0
"""The names that `import filax` offers, what importing costs, and the example that shows them."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import filax
from filax.cli.main import main
from filax.infer import compiled, decoding, encode, generate
from filax.infer.chat import Conversation
from filax.infer.pair import PairedModel
from filax.models.video_lm import VideoLM
from filax.testing import clips, manifests, tiny_checkpoint

HEAVY = ("jax", "flax", "numpy", "torch", "transformers", "orbax", "grain", "av", "tensorflow")


def test_importing_loads_nothing_heavy():
  check = f"import sys, filax; print([m for m in {HEAVY} if m in sys.modules])"
  done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
  check = (
    "import sys; from filax.cli.main import main; main([]); "
    f"print([m for m in {HEAVY} if m in sys.modules])"
  )
  done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", filax.__all__)
def test_every_name_resolves_and_is_documented(name):
  found = getattr(filax, name)
  assert callable(found) and found.__doc__
  assert name in dir(filax)


def test_type_checkers_know_every_name():
  text = (pathlib.Path(filax.__file__)).read_text()
  known = re.findall(r"^  from (\S+) import (\S+) as \2$", text, re.MULTILINE)
  assert {name: module for module, name in known} == filax._NAMES


def public_functions():
  """What a user of sessions calls."""
  for name in ("build", "build_video_lm", "evaluate", "load", "load_config", "read_video"):
    yield getattr(filax, name)
  yield filax.run_training
  for owner in (filax.Session, Conversation, filax.DecodedVideo):
    for name, method in inspect.getmembers(owner, inspect.isfunction):
      if not name.startswith("_"):
        yield method


@pytest.mark.parametrize("function", public_functions(), ids=lambda f: f.__qualname__)
def test_public_functions_are_typed_throughout(function):
  """Strict type checkers complain about a user's call otherwise."""
  signature = inspect.signature(function)
  assert signature.return_annotation is not inspect.Signature.empty
  for name, parameter in signature.parameters.items():
    assert name == "self" or parameter.annotation is not inspect.Parameter.empty, name


def test_type_checkers_see_an_unknown_name():
  """A module with a __getattr__ has any name, for them."""
  tree = ast.parse(pathlib.Path(filax.__file__).read_text())
  assert "__getattr__" not in [getattr(node, "name", "") for node in tree.body]


def test_the_version_is_that_of_the_command(capsys):
  main(["--version"])
  assert capsys.readouterr().out == f"filax {filax.__version__}\n"


def test_an_unknown_name_lists_the_known():
  with pytest.raises(AttributeError, match=r"filax has no 'lode'.*load"):
    _ = filax.lode


@pytest.mark.parametrize(
  "first", ["", "import filax.models.components", "from filax.models import components as build"]
)
def test_build_is_a_function_whatever_was_imported_before(first):
  call = "filax.build('selector', dict(name='uniform', size=5)).size"
  check = f"{first}\nimport filax; print({call})"
  done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "5"


def test_the_example_of_the_package_runs(tmp_path, monkeypatch, capsys):
  """The indented code of filax's docstring, on a tiny checkpoint and a real video."""
  monkeypatch.chdir(tmp_path)
  tiny_checkpoint.write_checkpoint(tmp_path / "runs" / "demo" / "stage2")
  clips.write_video(tmp_path / "lecture.mp4", 60)
  manifests.write_manifest(
    tmp_path / "questions.json",
    [manifests.question_record(QUESTION, "circle", video="lecture.mp4", kind="shape")],
  )
  code = "\n".join(re.findall(r"^  .*$", filax.__doc__, re.MULTILINE))
  names = {}
  exec(textwrap.dedent(code), names)
  assert names["report"]["questions"] == 1
  assert len(names["scenes"]) == 2 and names["visual"].table.shape[0] == 1


QUESTION = "What shape is on red?"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  return filax.load(tiny_checkpoint.write_checkpoint(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  return clips.write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 60)


def test_a_session_has_a_model_that_knows_no_tokenizer(session):
  assert type(session.model) is VideoLM
  assert not hasattr(session.model, "processor")


def test_a_session_shows_itself_in_a_line(session, video):
  shown = repr(session)
  assert "<Session of " in shown and "parameters>" in shown and len(shown) < 300
  assert len(repr(session.read_video(video))) < 700
  assert len(repr(session.scenes(video)[0])) < 200


def test_frames_that_are_no_video_are_named(session):
  frames = np.zeros((6, 42, 42, 3), np.uint8)
  for wrong in (frames, [frames], 3):
    for use in (session.read_video, session.scenes, lambda video: session.ask(video, QUESTION)):
      with pytest.raises(TypeError, match=r"A video is a path, .* DecodedVideo\(frames"):
        use(wrong)


def test_frames_of_ones_own_are_asked_about(session):
  frames = np.zeros((6, 42, 42, 3), np.uint8)
  video = filax.DecodedVideo(frames, np.arange(6.0), 6.0)
  assert session.ask(video, QUESTION, max_new_tokens=2) is not None


def test_a_session_unpacks_into_model_and_params(session):
  with warnings.catch_warnings(action="error"):
    model, params = session
  assert isinstance(model, VideoLM) and model.processor is session.processor
  assert params is session.params


def test_a_session_generates_with_the_settings_of_its_config(session):
  prompt = [5, 6, 7]
  generated = session.generate([prompt])
  assert len(generated.tokens[0]) <= session.processor.infer["max_new_tokens"]
  assert session.generate([prompt], max_new_tokens=1).tokens[0] == generated.tokens[0][:1]


def test_chat_of_a_pair_answers_as_the_session(session, video):
  model, params = session
  with pytest.warns(DeprecationWarning, match=r"session\.ask\(video, question\)"):
    answer = filax.chat(model, params, video, QUESTION, max_new_tokens=4, temperature=None)
  assert answer == session.ask(video, QUESTION, max_new_tokens=4)


def test_scenes_of_a_pair_are_those_of_the_session(session, video):
  model, params = session
  with pytest.warns(DeprecationWarning, match=r"session\.scenes\(video\)"):
    scenes = filax.scenes(model, params, video, count=2, selector="uniform")
  expected = session.scenes(video, count=2, selector="uniform")
  assert [scene.time for scene in scenes] == [scene.time for scene in expected]


def test_scenes_of_a_decoded_video_need_no_processor(session, video):
  decoded = session.read_video(video)
  with pytest.warns(DeprecationWarning):
    scenes = filax.scenes(session.model, session.params, decoded)
  assert [scene.time for scene in scenes] == [scene.time for scene in session.scenes(decoded)]


def test_generate_takes_a_pair_as_before(session):
  model, params = session
  with pytest.warns(DeprecationWarning, match=r"session\.generate\(prompts\)"):
    generated = filax.generate(model, params, [[5, 6, 7]], max_new_tokens=6)
  assert generated.tokens == session.generate([[5, 6, 7]], stop=(), lengths=(64,)).tokens


@pytest.mark.parametrize("named", [False, True])
def test_evaluate_takes_a_pair_as_before(session, video, tmp_path, named):
  record = manifests.question_record(QUESTION, "circle", video=video, kind="shape")
  manifest = manifests.write_manifest(tmp_path / "questions.json", [record])
  model, params = session
  with pytest.warns(DeprecationWarning, match=r"filax\.evaluate\(session, \.\.\.\)"):
    if named:
      report = filax.evaluate(model=model, params=params, manifest=manifest, progress=False)
    else:
      report = filax.evaluate(model, params, manifest, progress=False)
  with warnings.catch_warnings(action="error"):
    expected = filax.evaluate(session, manifest, progress=False)
  assert report["answers"] == expected["answers"]


def test_the_processor_of_a_pair_survives_clone(session, video):
  model, params = session
  other = model.clone(encode_chunk=2)
  assert isinstance(other, PairedModel) and other.processor is session.processor
  with pytest.warns(DeprecationWarning):
    assert filax.chat(other, params, video, QUESTION) == session.ask(video, QUESTION)


def test_a_pair_compiles_nothing_anew(session, video):
  expected = session.ask(video, QUESTION)
  before = compiled.compilations((encode.EMBED, generate.PREFILL, decoding.DECODE))
  model, params = session
  with pytest.warns(DeprecationWarning):
    assert filax.chat(model, params, video, QUESTION) == expected
  assert compiled.compilations((encode.EMBED, generate.PREFILL, decoding.DECODE)) == before


def test_a_model_without_a_processor_says_where_to_get_one(session):
  plain = session.model
  with pytest.warns(DeprecationWarning), pytest.raises(ValueError, match=r"filax\.load"):
    filax.chat(plain, session.params, "a.mp4", "What?")


def test_a_warning_names_the_line_that_calls(session, video):
  model, params = session
  with pytest.warns(DeprecationWarning) as warned:
    filax.scenes(model, params, video)
  assert warned[0].filename == __file__
