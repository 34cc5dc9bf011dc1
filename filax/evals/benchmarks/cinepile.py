# SPDX-License-Identifier: Apache-2.0
"""CinePile: five options about film clips of 160 seconds, with subtitles (arXiv:2405.08813).

`cinepile` reads the refined questions (configuration v2 of the publisher), `cinepile_v1` the first
ones; their scores are not comparable. The files are gated: their publisher asks for an account.
"""

from collections.abc import Iterator, Sequence
import functools
import re

from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from filax.evals import published_rules
from filax.evals.annotation_files import Row, find_file, options_field, parsed_rows, read_rows
from filax.evals.annotation_values import id_field, is_empty, option_number, words_field
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import MediaLookup, with_extensions
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.announced_letter import announced_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import option_lines, question_text, video_prompt, video_turn

OPTIONS = 5
PUBLISHER = "Its authors have it at https://huggingface.co/datasets/tomg-group-umd/cinepile."
FOLDERS = ("CinePile", "cinepile")
FILES = ("v2/test-00000-of-00001.parquet",)
FIRST_FILES = ("data/test-00000-of-00001.parquet", "default/test-00000-of-00001.parquet")
FIELDS = (
  *("yt_clip_link", "subtitles", "question", "choices", "answer_key_position"),
  *("question_category", "hard_split"),
)
_YOUTUBE_ID = re.compile(r"(?:[?&]v=|youtu\.be/)(?P<id>[\w-]{11})")

INSTRUCTION = (
  "You will be provided with subtitles from a specific scene of a movie and all the video frames "
  "from that scene. After going through the movie scene and seeing the frames, please answer the "
  "question that follows. The question will have five possible answers labeled A, B, C, D, and E, "
  "please try to provide the most probable answer in your opinion. Your output should be just one "
  "of A,B,C,D,E and nothing else.\n**Output Format:**\n\t**Answer:** <Option_key>"
)
REQUEST = (
  "Note: Follow the output format strictly. Only answer with the option key (A, B, C, D, E) and "
  "nothing else."
)


def read_examples(source: Source, names: Sequence[str] = FILES) -> Iterator[Example]:
  """The questions of the test set.

  "category" among their fields is the question_category on one line.
  """
  file = find_file(source, FOLDERS, names, PUBLISHER)
  if file is not None:
    parse = functools.partial(_example, MediaLookup(source.root or file.folder))
    yield from parsed_rows(source, file.path, read_rows(file.path, FIELDS), parse)


def _example(videos: MediaLookup, number: int, row: Row) -> Example:
  """The question of a record. Raises RecordError."""
  del number
  video = _video_id(row)
  options = options_field(row, "choices")
  answer = option_number(row["answer_key_position"], "answer_key_position", OPTIONS)
  if len(options) != OPTIONS:
    raise RecordError(f"has {len(options)} choices, not {OPTIONS}")
  path = videos.path(with_extensions(video, ("videos", "yt_videos", "")))
  category = " ".join(words_field(row, "question_category").split())
  return Example(
    id=video,
    turn=video_turn(words_field(row, "question")),
    answer=LETTERS[answer],
    media=((Scene(path),),),
    options=options,
    fields={**row, "category": category},
  )


def _video_id(row: Row) -> str:
  """The field "videoID", which lmms-eval expects, or the id in the link."""
  if not is_empty(row.get("videoID")):
    return id_field(row, "videoID")
  link = words_field(row, "yt_clip_link")
  match = _YOUTUBE_ID.search(link)
  if match is None:
    raise RecordError(f"has the yt_clip_link {excerpt(link)}, which has no id of a video")
  return match["id"]


def _lmms_prompt(example: Example, shown: ShownMedia) -> Prompt:
  """The subtitles of the clip, the question and its options."""
  del shown
  subtitles = example.fields["subtitles"]
  spoken = "" if is_empty(subtitles) else subtitles
  options = option_lines(example.options, "- ", ") ")
  return video_prompt(
    f"{INSTRUCTION}\n\n**Subtitles:**\n{spoken}\n\n{question_text(example)}\n{options}\n\n{REQUEST}"
  )


LMMS = NamedProtocol(
  prompt=_lmms_prompt,
  metric=Choice(announced_letter),
  version=published_rules.LMMS_EVAL,
  max_new_tokens=16,
  frames=published_rules.LLAVA_FRAMES,
  note="With all subtitles of the clip.",
)


def _benchmark(names: Sequence[str]) -> Benchmark:
  return Benchmark(
    read_examples=functools.partial(read_examples, names=names),
    protocols={"lmms-eval": LMMS},
    by=("category", "hard_split"),
    questions=4941,
    chance=1 / OPTIONS,
    publisher=PUBLISHER,
    shows_text=False,
  )


BENCHMARKS = dict(cinepile=_benchmark(FILES), cinepile_v1=_benchmark(FIRST_FILES))
