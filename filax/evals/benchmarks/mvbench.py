# SPDX-License-Identifier: Apache-2.0
"""MVBench: 4,000 questions about short videos, 200 of each of 20 tasks.

Reads json/<task>.json; videos are video/<folder of the task>/<video>, as the publisher's zip files
unpack. The clips that lmms-eval cuts, <video>_<start>_<end>.mp4, are taken where the whole video is
absent. Episodes of episodic_reasoning are folders of pictures, three a second.
"""

from collections.abc import Iterator
import functools
import os
from typing import NamedTuple

from data_pipelines.manifest.report import RecordError
from data_pipelines.sample import Scene
from filax.evals import published_rules
from filax.evals.annotation_files import (
  Row,
  find_file,
  number_field,
  option_letter,
  options_field,
  parsed_rows,
  read_rows,
  text_field,
)
from filax.evals.kit import Benchmark, Example, NamedProtocol, Prompt, ShownMedia, Source
from filax.evals.media_lookup import MediaLookup
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.mcq_acc import mcq_letter
from filax.evals.metrics.mvbench_official import MvbenchOfficial
from filax.evals.prompt_parts import option_lines, video_prompt, video_turn

PUBLISHER = (
  "MVBench's authors have it at https://huggingface.co/datasets/OpenGVLab/MVBench: json/, and the "
  "zip files of video/ (data0613.zip holds videos that the newer questions need). The videos of "
  "fine_grained_pose must be asked for at the ROSE Lab (NTU RGB+D)."
)
FOLDERS = ("MVBench", "mvbench")
PREFIXES = ("video", "", "videos", os.path.join("video", "data0613"), "data0613")
FIELDS = ("video", "question", "candidates", "answer")
FRAMES_PER_SECOND = 3  # Rate of the folders of pictures.


class TaskVideos(NamedTuple):
  """Where the videos of a task may be."""

  folders: tuple[str, ...]  # The authors', then VideoChat-Flash's other name for it.
  converted: str = ""  # lmms-eval's folder of the same videos as .mp4.
  segments: str = ""  # lmms-eval's folder of clips that are cut already.
  bounds: bool = False  # Whether records have start and end.
  pictures: bool = False  # Whether a video is a folder of pictures.


STAR = TaskVideos(("star/Charades_v1_480",), segments="star/Charades_segment", bounds=True)
PERCEPTION = TaskVideos(("perception/videos",))
CLEVRER = TaskVideos(("clevrer/video_validation",))
TASKS = dict(
  action_sequence=STAR,
  action_prediction=STAR,
  object_interaction=STAR,
  action_localization=TaskVideos(("sta/sta_video",), segments="sta/sta_video_segment", bounds=True),
  episodic_reasoning=TaskVideos(
    ("tvqa/frames_fps3_hq",),
    segments="tvqa/video_fps3_hq_segment",
    bounds=True,
    pictures=True,
  ),
  action_antonym=TaskVideos(("ssv2_video", "ssv2-video"), converted="ssv2_video_mp4"),
  fine_grained_action=TaskVideos(("Moments_in_Time_Raw/videos",)),
  unexpected_action=TaskVideos(("FunQA_test/test", "funqa-test/test")),
  scene_transition=TaskVideos(("scene_qa/video", "scene-qa/video")),
  fine_grained_pose=TaskVideos(("nturgbd",), converted="nturgbd_convert"),
  egocentric_navigation=TaskVideos(("vlnqa",)),
  object_shuffle=PERCEPTION,
  action_count=PERCEPTION,
  character_order=PERCEPTION,
  state_change=PERCEPTION,
  object_existence=CLEVRER,
  moving_direction=CLEVRER,
  moving_count=CLEVRER,
  moving_attribute=CLEVRER,
  counterfactual_inference=CLEVRER,
)
# The authors' instruction, in the system turn and before every question.
OFFICIAL_SYSTEM = (
  "Carefully watch the video and pay attention to the cause and sequence of events, the detail and "
  "movement of objects, and the action and pose of persons. Based on your observations, select the "
  "best option that accurately addresses the question.\n"
)


def read_examples(source: Source) -> Iterator[Example]:
  """The questions of all tasks; raises MissingAnnotation and BadAnnotation."""
  lookups: dict[str, MediaLookup] = {}
  for task, videos in TASKS.items():
    file = find_file(source, FOLDERS, (f"json/{task}.json", f"{task}.json"), PUBLISHER)
    if file is None:
      continue
    folder = source.root or file.folder
    lookup = lookups.setdefault(folder, MediaLookup(folder))
    fields = (*FIELDS, "start", "end") if videos.bounds else FIELDS
    parse = functools.partial(_example, task, lookup)
    yield from parsed_rows(source, file.path, read_rows(file.path, fields), parse)


def _example(task: str, lookup: MediaLookup, number: int, row: Row) -> Example:
  """The question of a row. Raises RecordError."""
  options = options_field(row, "candidates")
  answer = text_field(row, "answer")
  letter = option_letter(options, answer)
  if letter is None:
    raise RecordError(f"has the answer {answer!r}, which is none of its candidates")
  return Example(
    id=f"{task}/{number}",
    turn=video_turn(text_field(row, "question")),
    answer=letter,
    media=((_scene(TASKS[task], lookup, row),),),
    options=options,
    fields=dict(row, task=task),
  )


def _scene(videos: TaskVideos, lookup: MediaLookup, row: Row) -> Scene:
  """The video of a row, or its part between start and end."""
  name = text_field(row, "video")
  candidates = _whole_videos(videos, name)
  path = lookup.find(candidates)
  if path is None and videos.segments:
    path = lookup.find(_segments(videos, name, row))
    if path is not None:
      return Scene(_medium(videos, path))
  if path is None:
    path = lookup.path(candidates)
  medium = _medium(videos, path)
  if not videos.bounds:
    return Scene(medium)
  start = max(0.0, float(number_field(row, "start")))
  end = float(number_field(row, "end"))
  if end <= start:
    raise RecordError(f"ends at {end} s, not after its start at {start} s")
  return Scene(medium, t0=start, t1=end)


def _medium(videos: TaskVideos, path: str) -> str:
  """The medium of a path; folders of pictures get their rate."""
  _, extension = os.path.splitext(path)
  if not videos.pictures or extension == ".mp4":
    return path
  return f"{path}@{FRAMES_PER_SECOND}fps"


def _whole_videos(videos: TaskVideos, name: str) -> list[str]:
  """Paths of the whole video, the authors' first."""
  stem, _ = os.path.splitext(name)
  paths = []
  for prefix in PREFIXES:
    for folder in videos.folders:
      paths.append(os.path.join(prefix, folder, name))
  if videos.converted:
    for prefix in PREFIXES:
      paths.append(os.path.join(prefix, videos.converted, f"{stem}.mp4"))
  return paths


def _segments(videos: TaskVideos, name: str, row: Row) -> list[str]:
  """Paths of the clip that is cut already.

  In lmms-eval's own annotations `video` names the clip.
  """
  stem, extension = os.path.splitext(name)
  cut = f"{stem}_{row['start']}_{row['end']}"
  paths = []
  for prefix in PREFIXES:
    folder = os.path.join(prefix, videos.segments)
    paths.append(os.path.join(folder, name))
    paths.append(os.path.join(folder, cut + extension))
    paths.append(os.path.join(folder, f"{cut}.mp4"))
  return paths


def _question(example: Example) -> str:
  return example.fields["question"]


def _lines(example: Example) -> str:
  return option_lines(example.options, "(", ") ")


def _lmms_prompt(example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval."""
  del media
  return video_prompt(
    f"Question:{_question(example)}\nOption:\n{_lines(example)}\nOnly give the best option.\n"
  )


def _vcf_prompt(example: Example, media: ShownMedia) -> Prompt:
  """VideoChat-Flash: a blank line before the request."""
  del media
  return video_prompt(
    f"Question: {_question(example)}\nOption:\n{_lines(example)}\n\nOnly give the best option."
  )


def _official_prompt(example: Example, media: ShownMedia) -> Prompt:
  """MVBench's authors (VideoChat2); the answer is begun for the model."""
  del media
  question = f"Question: {_question(example)}\nOptions:\n{_lines(example)}"
  text = f"{OFFICIAL_SYSTEM}{question}\nOnly give the best option."
  return video_prompt(text, system=OFFICIAL_SYSTEM, answer_start="Best option:(")


_NONEMPTY = "Empty answers leave the denominator, as in the harness."
PROTOCOLS = {
  "lmms-eval": NamedProtocol(
    prompt=_lmms_prompt,
    metric=Choice(mcq_letter, counts="nonempty"),
    version=published_rules.LMMS_EVAL,
    max_new_tokens=16,
    frames=published_rules.LLAVA_FRAMES,
    macro=True,
    note=f"{_NONEMPTY} FiLA-Video's paper is silent on its prompts.",
  ),
  "vcf": NamedProtocol(
    prompt=_vcf_prompt,
    metric=Choice(mcq_letter, counts="nonempty"),
    version=published_rules.VIDEOCHAT_FLASH,
    max_new_tokens=16,
    frames="about one a second of the clip, 64 to 512",
    macro=True,
    note=_NONEMPTY,
  ),
  "official": NamedProtocol(
    prompt=_official_prompt,
    metric=MvbenchOfficial(),
    version="VideoChat2 (MVBench's authors)",
    max_new_tokens=100,
    frames="16, the middles of equal intervals of the clip",
    macro=True,
    note="An empty answer counts as right, as in the authors' script.",
  ),
}
BENCHMARKS = dict(
  mvbench=Benchmark(
    read_examples=read_examples,
    protocols=PROTOCOLS,
    by=("task",),
    macro="task",
    questions=4000,
    chance=0.283,
    publisher=PUBLISHER,
  )
)
