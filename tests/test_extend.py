# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/extend.md, each used as the page says."""

import importlib
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Sample, Turn
from data_pipelines.synthesis.sources import registry
from data_pipelines.synthesis.sources.track_report import TrackReport
from data_pipelines.text import templates, tokenizers
from filax.evals import kit
from filax.evals.registry import find_benchmark
from filax.models import components
from filax.testing import packed_rows, tiny_tokenizer

FOLDER = pathlib.Path(__file__).parents[1] / "examples/extend"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
  monkeypatch.syspath_prepend(str(FOLDER))
  monkeypatch.syspath_prepend(str(FOLDER.parent))


def build_with(role, **section):
  """FiLA at tiny size with another component in one role."""
  return components.build_video_lm({**packed_rows.FILA, role: section})


def sharded_shapes(role, **section):
  """Parameters of the whole model; each has its row of DIMS."""
  config = {**packed_rows.FILA, role: section}
  shapes = components.parameter_shapes(build_with(role, **section))
  assert components.dims_table(config)
  return shapes[role]


def test_the_encoder_builds():
  shapes = sharded_shapes("encoder", name="add_an_encoder:Patches", width=48)
  assert "PatchEmbed_0" in shapes


def test_the_selector_takes_the_frames_that_move():
  selector = components.build("selector", dict(name="motion_selector:MostMotion", scenes=2, size=1))
  tokens = jnp.asarray([0.0, 0.0, 5.0, 5.0, 5.0, 0.0, 9.0]).reshape(1, 7, 1, 1)
  mask = jnp.asarray([[True] * 6 + [False]])  # The last frame is padding.
  groups = selector.apply({}, tokens, mask)
  np.testing.assert_array_equal(groups.index, [[[2], [5]]])


def test_the_selector_repeats_the_last_frame_of_a_short_video():
  selector = components.build("selector", dict(name="motion_selector:MostMotion", scenes=2, size=2))
  mask = jnp.asarray([[True, True, False, False]])
  groups = selector.apply({}, jnp.ones((1, 4, 1, 1)), mask)
  assert groups.index.max() == 1


def test_the_selector_names_the_setting_that_is_too_small():
  selector = components.build("selector", dict(name="motion_selector:MostMotion", scenes=2))
  with pytest.raises(ValueError, match=r"config\.infer\.sampling\.frames to 6"):
    selector.groups(5)


def test_a_model_builds_with_a_selector_that_needs_many_frames():
  section = dict(name="motion_selector:MostMotion", scenes=4, size=3)
  model = build_with("selector", **section)
  assert model.example_frames() == 12
  assert components.parameter_shapes(model)["llm"]


def test_the_merger_is_the_mean_if_its_gate_is_zero():
  merger = components.build("merger", dict(name="gated_merger:Gated"))
  x = jax.random.normal(jax.random.key(0), (1, 2, 3, 4, 8))
  params = jax.tree.map(jnp.zeros_like, merger.init(jax.random.key(1), x))
  np.testing.assert_allclose(merger.apply(params, x), x.mean(2), rtol=1e-5, atol=1e-6)


def test_the_merger_builds():
  assert sharded_shapes("merger", name="gated_merger:Gated")["gate"]["kernel"].shape[-1] == 1


def test_the_language_model_builds():
  shapes = sharded_shapes("llm", name="normed_llm:Normed", variant="tiny")
  attention = shapes["layers"]["self_attn"]
  assert {"q_norm", "k_norm"} <= set(attention) and "bias" in attention["q_proj"]


def test_the_chat_template_writes_its_own_marks(tmp_path):
  shutil.copy(FOLDER / "chat_template.jinja", tmp_path)
  tokenizer = tokenizers.load_tokenizer(tiny_tokenizer.write_qwen_tokenizer(tmp_path))
  turns = (Turn("user", ("Say <|im_end|>.",)), Turn("assistant", ("No.",)))
  encoded = templates.encode_conversation(Sample("x", turns), tokenizer, template="chat")
  ends = (encoded.tokens == tokenizer.special("<|im_end|>")).sum()
  assert ends == 2, "a control token may not come from the words of a user"


def read_csv(tmp_path, rows):
  path = tmp_path / "events.csv"
  path.write_text("video,seconds,start,stop,text\n" + rows)
  report = TrackReport()
  tracks = list(registry.find_source("csv_source:SOURCE").read_tracks([str(path)], "", report))
  return tracks, report


def test_the_source_reads_events(tmp_path):
  tracks, _ = read_csv(tmp_path, "a.mp4,60,1,5,A dog runs\na.mp4,60,9,20,It sits\n")
  assert [event.text for event in tracks[0].events] == ["A dog runs", "It sits"]


def test_the_source_reports_what_it_leaves_out(tmp_path):
  tracks, report = read_csv(tmp_path, "a.mp4,60,one,5,A dog runs\nb.mp4,60,1,5,A cat\n")
  assert [track.key for track in tracks] == ["b.mp4"]
  assert "one" in str(report.bad[0])


def test_the_source_needs_media_inside_its_folder(tmp_path):
  source = importlib.import_module("csv_source")
  folder = importlib.import_module("data_pipelines.synthesis.sources.media_folder")
  row = dict(seconds="60", start="1", stop="2", text="A dog")
  with pytest.raises(RecordError, match="not a path inside"):
    source.track_of("../a.mp4", [row], folder.MediaFolder(""))


def test_the_benchmark_asks_with_letters(tmp_path):
  rows = [dict(id="1", video="a.mp4", question="Who?", answer="B", options=["A dog", "A cat"])]
  (tmp_path / "questions.json").write_text(json.dumps(rows))
  benchmark = find_benchmark(f"{FOLDER}/animals_benchmark.py:animals")
  (example,) = benchmark.read_examples(kit.Source(str(tmp_path)))
  prompt = benchmark.protocols["official"].prompt(example, kit.ShownMedia(1.0, np.zeros(1)))
  assert "B" in prompt.turns[0].text and "A cat" in prompt.turns[0].text
