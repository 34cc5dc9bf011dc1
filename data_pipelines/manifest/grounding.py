# SPDX-License-Identifier: Apache-2.0
"""Records of temporal grounding.

An event of a video, and when it happens.

  {"video": "a.mp4", "caption": "person opens the door.", "timestamp": [2.5, 9.1]}
  {"video": "a.mp4", "duration": 90, "events": [{"query": "a goal", "span": [[2.5, 9.1]]}]}
  {"video": "a.mp4", "sentences": ["a goal"], "timestamps": [[2.5, 9.1]]}
  {"vid": "a", "annotations": [{"sentence": "a goal", "segment": [2.5, 9.1]}], "subset": "training"}

An event becomes a question and an answer; its seconds are those of the file. Events of the same
text are one event that happens several times.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.manifest.conversation import Part, conversation_sample, video_timeline
from data_pipelines.manifest.excerpts import excerpt
from data_pipelines.manifest.folder_rates import given_rates
from data_pipelines.manifest.llava_media import optional_seconds
from data_pipelines.manifest.named_videos import video_file
from data_pipelines.manifest.report import ManifestReport, RecordError
from data_pipelines.sample import Sample

TEXTS = ("caption", "query", "sentence")
SPANS = ("timestamp", "span", "relevant_windows", "timestamps", "segment")
QUESTION = "When does this happen in the video: {event} Give the start and the end in seconds."
_HELD_OUT = ("validation", "val", "testing", "test")  # Subsets of sets in one file, as YouCook2.
_TOLERANCE = 1.0  # Seconds by which annotated ends may lie behind the end of a video.


def is_grounding(record: Mapping[str, Any]) -> bool:
  """Whether a record's keys are those of temporal grounding."""
  if isinstance(record.get("events"), list) or is_dense(record):
    return True
  return _key(record, TEXTS) is not None and _key(record, SPANS) is not None


def is_dense(record: Any) -> bool:
  """Whether a record has sentences with their times."""
  if not isinstance(record, Mapping):
    return False
  if isinstance(record.get("sentences"), list) and record.get("timestamps") is not None:
    return True
  return _has_segments(record)


def _has_segments(record: Mapping[str, Any]) -> bool:
  """Whether `annotations` of a record are sentences with segments."""
  entries = record.get("annotations")
  first = entries[0] if isinstance(entries, list) and entries else None
  return isinstance(first, Mapping) and {"segment", "sentence"} <= first.keys()


def parse_grounding(
  record: Mapping[str, Any], origin: str, root: str, report: ManifestReport
) -> Sample:
  """A record of temporal grounding as a Sample. Raises RecordError."""
  video = _video(record)
  for key in ("start", "end"):
    if record.get(key) is not None:
      raise RecordError(f"has {key} {excerpt(record[key])} beside the times of events")
  timeline = video_timeline({"video": video, **given_rates(record)}, root)
  duration = optional_seconds(record.get("duration"), "duration")
  turns: list[tuple[str, list[Part]]] = []
  for text, windows in _events(record):
    question = QUESTION.format(event=text)
    shown: list[Part] = [question] if turns else [timeline, "\n" + question]
    answer = _answer(_checked_windows(windows, duration))
    turns += [("user", shown), ("assistant", [answer])]
  return conversation_sample(record, turns, origin, report)


def dense_captions(record: Mapping[str, Any]) -> list[dict[str, Any] | RecordError]:
  """The sentences of a record as captions of parts. Raises RecordError."""
  video = _video(record)
  captions: list[dict[str, Any] | RecordError] = []
  for text, times in _listed_events(record):
    for start, end in _windows(times):
      captions.append({"video": video, "caption": text, "start": start, "end": end})
  return captions


def _video(record: Mapping[str, Any]) -> str:
  """The name of a record's video. Raises RecordError."""
  video = record.get("video") or record.get("video_path")
  if video is None and record.get("vid") is not None:
    video = video_file(record["vid"])
  if video is None:
    keys = excerpt(", ".join(map(str, record)), 200)
    raise RecordError(f"has events but neither video, video_path nor vid; its keys are {keys}")
  if record.get("subset") in _HELD_OUT:
    raise RecordError(f"is of the subset {excerpt(record['subset'])}, which is not trained on")
  if not isinstance(video, str):
    raise RecordError(f"has events but names its video by {excerpt(video)}, which is not a path")
  return video


def _events(record: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
  """(text, times) of every event; events of the same text are joined."""
  times: dict[str, list[Any]] = {}
  for text, windows in _listed_events(record):
    times.setdefault(_event_text(text), []).extend(_windows(windows))
  return list(times.items())


def _listed_events(record: Mapping[str, Any]) -> list[tuple[Any, Any]]:
  """(text, times) of every event as written."""
  listed = record.get("events")
  if not isinstance(listed, list) and _has_segments(record):
    listed = record["annotations"]
  if isinstance(listed, list):
    events = []
    for event in listed:
      keys = _event_keys(event)
      events.append((event[keys[0]], event[keys[1]]))
    if not events:
      raise RecordError("has no events")
    return events
  if isinstance(record.get("sentences"), list) and "timestamps" in record:
    sentences = record["sentences"]
    times = record["timestamps"]
    if not isinstance(times, list) or len(times) != len(sentences) or not sentences:
      raise RecordError(f"has {len(sentences)} sentences but timestamps {excerpt(times)}")
    return list(zip(sentences, times, strict=True))
  keys = _event_keys(record)
  return [(record[keys[0]], record[keys[1]])]


def _event_keys(event: Any) -> tuple[str, str]:
  text = _key(event, TEXTS) if isinstance(event, Mapping) else None
  span = _key(event, SPANS) if isinstance(event, Mapping) else None
  if text is None or span is None:
    raise RecordError(f"has the event {excerpt(event)} without a query and a span")
  return text, span


def _key(record: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
  """The first of the keys that a record has."""
  for key in keys:
    if record.get(key) is not None:
      return key
  return None


def _event_text(text: Any) -> str:
  if not isinstance(text, str) or not text.strip():
    raise RecordError(f"has an event {excerpt(text)}, which is not a text")
  text = text.strip()
  return text if text[-1] in ".!?" else text + "."


def _windows(times: Any) -> list[Any]:
  """The [start, end] of an event, once or several times, as written."""
  listed = times if isinstance(times, list) else []
  if len(listed) == 2 and not any(isinstance(entry, list) for entry in listed):
    listed = [listed]
  if not listed or not all(isinstance(window, list) and len(window) == 2 for window in listed):
    raise RecordError(f"has times {excerpt(times)}, which are not [start, end] in seconds")
  return listed


def _checked_windows(windows: list[Any], duration: float | None) -> list[tuple[float, float]]:
  """The (start, end) of an event, once or several times."""
  checked = []
  for window in windows:
    start = optional_seconds(window[0], "start")
    end = optional_seconds(window[1], "end")
    if start is None or end is None:
      raise RecordError(f"has times {excerpt(window)}, which are not [start, end] in seconds")
    if not 0 <= start < end:
      raise RecordError(f"has an event from {start:g} to {end:g} seconds, which is not a span")
    if duration is not None and end > duration + _TOLERANCE:
      raise RecordError(
        f"has an event that ends at {end:g} s in a video of {duration:g} s, which is not a span in "
        "it"
      )
    checked.append((start, end))
  return checked


def _answer(windows: list[tuple[float, float]]) -> str:
  """The times as a sentence; "number - number" is what scorers read."""
  spans = [f"{start:.1f} - {end:.1f}" for start, end in windows]
  return f"The event happens in the {' and the '.join(spans)} seconds."
