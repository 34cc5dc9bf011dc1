# SPDX-License-Identifier: Apache-2.0
"""Video-MME: 2,700 questions about 900 videos of 11 seconds to an hour, without and with subtitles.

The files:

  questions  videomme/test-00000-of-00001.parquet
  videos     data/<videoID>.mp4 (lmms-eval) or videos/<videoID>.mp4 (VideoChat-Flash), also .MP4
             and .mkv
  subtitles  subtitle/<videoID>.srt

The licence forbids the distribution of questions, so pages show none.

The prompt of lmms-eval changed in versions 0.2.2 and 0.3.0, and its reading of answers changed on
2026-04-11. Scores under different protocols are not comparable. LLaVA-OneVision's 58.2 was measured
with version 0.2.
"""

from collections.abc import Callable, Iterator
import functools
import os

from data_pipelines.manifest.report import RecordError
from data_pipelines.media.probe import probe
from data_pipelines.sample import Scene
from filax.evals import published_rules, subtitles
from filax.evals.annotation_files import (
  AnnotationFile,
  Row,
  find_file,
  options_field,
  parsed_rows,
  read_rows,
  text_field,
)
from filax.evals.kit import (
  Benchmark,
  Example,
  MissingAnnotation,
  NamedProtocol,
  Prompt,
  ShownMedia,
  Source,
)
from filax.evals.media_lookup import MediaLookup, with_extensions
from filax.evals.metrics.choice import Choice
from filax.evals.metrics.extractors.first_letter import first_letter
from filax.evals.metrics.extractors.priority import priority_letter
from filax.evals.metrics.options import LETTERS
from filax.evals.prompt_parts import video_prompt, video_turn

PUBLISHER = (
  "Video-MME's authors have it at https://huggingface.co/datasets/lmms-lab/Video-MME: the parquet "
  "file, videos in zip files (to data/), subtitle.zip (to subtitle/)."
)
FOLDERS = ("Video-MME", "VideoMME", "videomme", "VideoMME_0629")
FILES = ("videomme/test-00000-of-00001.parquet", "test-00000-of-00001.parquet")
FIELDS = (
  *("video_id", "duration", "domain", "sub_category", "videoID"),
  *("question_id", "task_type", "question", "options", "answer"),
)
BY = ("duration_group", "domain", "sub_category", "task_type")
VIDEO_FOLDERS = ("data", "videos", "video")  # lmms-eval's, VideoChat-Flash's, others'.
SUBTITLE_FOLDER = "subtitle"
SUBTITLE_FILES = 744  # The number of videos, of 900, that have subtitles.

# The instruction of lmms-eval, with and without subtitles.
LMMS_HEAD = (
  "Select the best answer to the following multiple-choice question based on the video and the "
  "subtitles. Respond with only the letter (A, B, C, or D) of the correct option."
)
OFFICIAL_HEAD = (
  "Select the best answer to the following multiple-choice question based on the video. Respond "
  "with only the letter (A, B, C, or D) of the correct option."
)
VCF_HEAD = f"These are the frames of a video. {OFFICIAL_HEAD}"
VCF_SUBTITLES_HEAD = f"These are the frames and subtitles of a video. {LMMS_HEAD}"
DIRECTLY = "Answer with the option's letter from the given choices directly."
BEST = "The best answer is:"
LISTED = "This video's subtitles are listed below: \n"


def read_examples(source: Source) -> Iterator[Example]:
  """The questions; raises MissingAnnotation and BadAnnotation."""
  file = _find_questions(source)
  if file is not None:
    videos = MediaLookup(source.root or file.folder)
    parse = functools.partial(_example, videos, None)
    yield from parsed_rows(source, file.path, read_rows(file.path, FIELDS), parse)


def read_subtitled_examples(source: Source) -> Iterator[Example]:
  """The questions with `subtitle_file` among their fields, "" for none.

  Raises MissingAnnotation and BadAnnotation.
  """
  file = _find_questions(source)
  if file is not None:
    videos = MediaLookup(source.root or file.folder)
    parse = functools.partial(_example, videos, _subtitle_lookup(source, file))
    yield from parsed_rows(source, file.path, read_rows(file.path, FIELDS), parse)


def _find_questions(source: Source) -> AnnotationFile | None:
  """The parquet file, with the folder that holds videomme/ and the media."""
  file = find_file(source, FOLDERS, FILES, PUBLISHER)
  if file is None:
    return None
  places = [os.path.join(file.folder, name) for name in (*VIDEO_FOLDERS, SUBTITLE_FOLDER)]
  inside = os.path.basename(os.path.abspath(file.folder)) == "videomme"
  if inside and not any(map(os.path.isdir, places)):
    return file._replace(folder=os.path.dirname(os.path.abspath(file.folder)))
  return file


def _subtitle_lookup(source: Source, file: AnnotationFile) -> MediaLookup:
  """The folder of subtitle files, which must be there.

  Questions without a file say so in their prompts, so that a missing folder would go unnoticed.
  """
  folders = [os.path.join(file.folder, SUBTITLE_FOLDER)]
  if source.root:
    folders.insert(0, os.path.join(source.root, SUBTITLE_FOLDER))
  folder = next(filter(os.path.isdir, folders), folders[-1])
  count = len(os.listdir(folder)) if os.path.isdir(folder) else 0
  sentence = f"{folder} has {count} of the {SUBTITLE_FILES} subtitle files. {PUBLISHER}"
  if not count and not source.allow_missing:
    raise MissingAnnotation(sentence)
  if count < SUBTITLE_FILES:
    source.missing.append(sentence)
  if count:
    source.annotations.append(folder)
  return MediaLookup(folder)


def _example(videos: MediaLookup, captions: MediaLookup | None, number: int, row: Row) -> Example:
  """The question of a row. Raises RecordError."""
  del number
  options = _unlettered_options(row)
  answer = text_field(row, "answer").strip()
  if answer not in tuple(LETTERS[: len(options)]):
    raise RecordError(f"has the answer {answer!r}, which is not a letter of its options")
  video = text_field(row, "videoID")
  path = videos.path(with_extensions(video, (*VIDEO_FOLDERS, "")))
  fields = dict(row, duration_group=row["duration"])
  if captions is not None:
    fields["subtitle_file"] = captions.find([f"{video}.srt"]) or ""
  return Example(
    id=text_field(row, "question_id"),
    turn=video_turn(text_field(row, "question")),
    answer=answer,
    media=((Scene(path),),),
    options=options,
    fields=fields,
  )


def _unlettered_options(row: Row) -> tuple[str, ...]:
  """The options without the "A. " of the file.

  Raises RecordError for options without it.
  """
  options = []
  for letter, option in zip(LETTERS, options_field(row, "options"), strict=False):
    if not option.startswith(f"{letter}. "):
      raise RecordError(f'has the option {option!r}, which does not begin with "{letter}. "')
    options.append(option[len(f"{letter}. ") :])
  return tuple(options)


def _question(example: Example) -> str:
  return example.fields["question"]


def _lines(example: Example) -> str:
  """The options as the file has them, one a line: "A. Two."."""
  return "\n".join(example.fields["options"])


def _lmms_prompt(end: str, example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval since 0.3.0; `end` depends on the model."""
  del media
  return video_prompt(f"{LMMS_HEAD}\n{_question(example)}\n{_lines(example)}\n{end}")


def _lmms_list_prompt(example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval 0.2.2 to 0.2.4: the options as Python writes a list."""
  del media
  options = list(example.fields["options"])
  return video_prompt(f"{LMMS_HEAD}\n{_question(example)}\n{options}\n\n{DIRECTLY}")


def _lmms_first_prompt(example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval 0.2.0."""
  del media
  options = list(example.fields["options"])
  return video_prompt(f"{_question(example)}\n{options}\nAnswer the question with A, B, C, or D.")


def _vcf_prompt(example: Example, media: ShownMedia) -> Prompt:
  """VideoChat-Flash without subtitles."""
  del media
  return video_prompt(
    f"{VCF_HEAD}\nQuestion: {_question(example)}\nOption:\n{_lines(example)}\n{DIRECTLY}"
  )


def _official_prompt(example: Example, media: ShownMedia) -> Prompt:
  """Video-MME's README without subtitles."""
  del media
  return video_prompt(f"{OFFICIAL_HEAD} \n{_question(example)}\n{_lines(example)}\n{BEST}")


def _lmms_subtitle_prompt(count: int, example: Example, media: ShownMedia) -> Prompt:
  """lmms-eval with the captions of `count` even frames."""
  del media
  lines = "No subtitles available"
  if example.fields["subtitle_file"]:
    lines = "\n".join(_lines_at_frames(example, count))
  return video_prompt(
    f"{LISTED}{lines}\n{LMMS_HEAD}\n{_question(example)}\n{_lines(example)}\n{BEST}"
  )


def _vcf_subtitle_prompt(example: Example, media: ShownMedia) -> Prompt:
  """VideoChat-Flash with the whole subtitle file."""
  del media
  before = ""
  head = VCF_HEAD
  if example.fields["subtitle_file"]:
    lines = subtitles.tagged_lines(subtitles.srt_text(example.fields["subtitle_file"]))
    before = LISTED + "\n".join(lines)
    head = VCF_SUBTITLES_HEAD if lines else VCF_HEAD
  question = f"Question: {_question(example)}\nOption:\n{_lines(example)}"
  return video_prompt(f"{before}\n{head}\n{question}\n{BEST}")


def _official_subtitle_prompt(example: Example, media: ShownMedia) -> Prompt:
  """Video-MME's README with the captions of the frames that are shown."""
  if not example.fields["subtitle_file"]:
    return _official_prompt(example, media)
  captions = subtitles.srt_captions(subtitles.srt_text(example.fields["subtitle_file"]))
  lines = "\n".join(subtitles.captions_at_times(captions, media.times))
  return video_prompt(
    f"This video's subtitles are listed below:\n{lines} \n{OFFICIAL_HEAD} \n{_question(example)}\n"
    f"{_lines(example)}\n{BEST}"
  )


def _lines_at_frames(example: Example, count: int) -> list[str]:
  """lmms-eval's captions; it finds frames only in files named .mp4."""
  media = example.media[0][0].media
  if not media.endswith(".mp4"):
    return []
  frames, fps = _container(media)
  captions = subtitles.srt_captions(subtitles.srt_text(example.fields["subtitle_file"]))
  return subtitles.captions_at_frames(captions, frames, fps, count)


@functools.lru_cache(maxsize=16)
def _container(media: str) -> tuple[int, float]:
  """(frames, frames a second) of a video; zeros if unreadable."""
  facts = probe(media)
  return facts.frames, facts.fps


_VCF = functools.partial(
  NamedProtocol,
  metric=Choice(first_letter),
  version=published_rules.VIDEOCHAT_FLASH,
  max_new_tokens=16,
  frames=published_rules.VIDEOCHAT_FLASH_FRAMES,
)
_OFFICIAL = functools.partial(
  NamedProtocol,
  metric=Choice(first_letter, counts="parsed"),
  version="Video-MME README; script of 2024-06",
  max_new_tokens=16,
  frames="the model's own",
  note="Answers without a letter leave the denominator, as in the authors' script.",
)


def _lmms(
  prompt: Callable[[Example, ShownMedia], Prompt],
  version: str,
  extract: Callable,
  note: str = "",
  frames: str = published_rules.LLAVA_FRAMES,
) -> NamedProtocol:
  """A protocol of a version of lmms-eval."""
  return NamedProtocol(
    prompt=prompt,
    metric=Choice(extract),
    version=version,
    max_new_tokens=16,
    frames=frames,
    note=note,
  )


_PAPER_SILENT = "FiLA-Video's paper is silent on its prompts and on the version of lmms-eval."
_SET_ORDER = (
  "Captions of 32 even frames of the file, in the order of a set of their numbers (not of time); "
  "none for a video that is not named .mp4."
)
_LLAVA_VIDEO_FRAMES = "one a second, or even ones if that is too many (LLaVA-Video)"
_DIRECTLY_PROMPT = functools.partial(_lmms_prompt, f"\n{DIRECTLY}")
PROTOCOLS = {
  "lmms-eval": _lmms(_DIRECTLY_PROMPT, "lmms-eval 0.7.3", priority_letter, _PAPER_SILENT),
  "lmms-eval-0.3": _lmms(
    _DIRECTLY_PROMPT, "lmms-eval 0.3.0 to 2026-04-10", first_letter, _PAPER_SILENT
  ),
  "lmms-eval-llava-vid": _lmms(
    functools.partial(_lmms_prompt, BEST),
    "lmms-eval 0.7.3, model llava_vid",
    priority_letter,
    frames=_LLAVA_VIDEO_FRAMES,
  ),
  "lmms-eval-0.2": _lmms(
    _lmms_list_prompt,
    "lmms-eval 0.2.2 to 0.2.4",
    first_letter,
    "The era of LLaVA-OneVision's 58.2.",
  ),
  "lmms-eval-0.2.0": _lmms(_lmms_first_prompt, "lmms-eval 0.2.0", first_letter),
  "vcf": _VCF(prompt=_vcf_prompt),
  "official": _OFFICIAL(prompt=_official_prompt),
}
SUBTITLE_PROTOCOLS = {
  "lmms-eval": _lmms(
    functools.partial(_lmms_subtitle_prompt, 32),
    "lmms-eval 0.7.3",
    priority_letter,
    f"{_SET_ORDER} {_PAPER_SILENT}",
  ),
  "lmms-eval-0.3": _lmms(
    functools.partial(_lmms_subtitle_prompt, 32),
    "lmms-eval 0.3.0 to 2026-04-10",
    first_letter,
    f"{_SET_ORDER} {_PAPER_SILENT}",
  ),
  "lmms-eval-llava-vid": _lmms(
    functools.partial(_lmms_subtitle_prompt, 768),
    "lmms-eval 0.7.3, model llava_vid",
    priority_letter,
    _SET_ORDER.replace("32", "768"),
    _LLAVA_VIDEO_FRAMES,
  ),
  "vcf": _VCF(prompt=_vcf_subtitle_prompt, note="The whole subtitle file is in the prompt."),
  "official": _OFFICIAL(prompt=_official_subtitle_prompt),
}
BENCHMARKS = dict(
  videomme=Benchmark(
    read_examples=read_examples,
    protocols=PROTOCOLS,
    by=BY,
    questions=2700,
    chance=0.25,
    publisher=PUBLISHER,
    shows_text=False,
  ),
  videomme_subtitles=Benchmark(
    read_examples=read_subtitled_examples,
    protocols=SUBTITLE_PROTOCOLS,
    by=BY,
    questions=2700,
    chance=0.25,
    publisher=PUBLISHER,
    shows_text=False,
  ),
)
