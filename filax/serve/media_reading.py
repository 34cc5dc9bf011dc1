# SPDX-License-Identifier: Apache-2.0
"""Reads the media of requests: which frames, and their pixels."""

from collections.abc import Mapping
import contextlib
import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from data_pipelines.media import frames as media_frames
from data_pipelines.media import pictures
from data_pipelines.media import probe as media_probe
from data_pipelines.media.open import LargeFrameError, Limits, SlowMediaError
from data_pipelines.packing import frame_sampling, tiles
from data_pipelines.packing.tiles import Views
from data_pipelines.sample import Scene, Timeline
from filax.infer import encode_long
from filax.infer import video as video_lib
from filax.infer.encoded_media import EncodedMedia
from filax.infer.generate import context_length
from filax.infer.lengths import ladder
from filax.infer.loaded import LoadedModel
from filax.infer.video import DecodedVideo
from filax.serve.feature_cache import ContentDigests, FeatureCache, SharedReads
from filax.serve.limits import ServingLimits
from filax.serve.requests import IMAGE, FrameSettings, Medium, RequestError

_EXACT = 64  # Units of frames up to which every count is read; above it, counts of a ladder.
_REMEMBERED = 4096  # Files whose facts are known.
_ANY_PIXELS = 1 << 62  # So that the error names the server's limit.
_PICTURE_FPS = 1.0  # Pictures a second of a video that comes as pictures.


@dataclasses.dataclass(frozen=True, eq=False)
class ReadVideo:
  """A video with its frames, or with its visual tokens if known."""

  key: str  # Of its visual tokens.
  times: np.ndarray  # float64 [T]: seconds of the frames on the timeline.
  start: float  # Seconds of the file where the timeline begins.
  end: float
  duration: float  # Seconds of the whole file.
  timeline: Timeline
  is_lasting: bool = True  # Whether --encode-cache keeps it.
  video: DecodedVideo | None = None
  encoded: EncodedMedia | None = None

  def without_pixels(self) -> "ReadVideo":
    """The same without frames and visual tokens."""
    return dataclasses.replace(self, video=None, encoded=None)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedVideo:
  """A video with its visual tokens under one selector and dropout."""

  loaded: LoadedModel
  read: ReadVideo
  media: EncodedMedia


@dataclasses.dataclass(frozen=True, eq=False)
class ReadPicture:
  """A still picture with its views, unless it was encoded before."""

  key: str
  picture: np.ndarray | None = None  # uint8 [h w 3]
  views: Views | None = None
  encoded: EncodedMedia | None = None

  def without_pixels(self) -> "ReadPicture":
    """The same without pixels and visual tokens."""
    return ReadPicture(self.key)


@dataclasses.dataclass(frozen=True)
class _Chosen:
  """The frames that a request asks for."""

  sampling: Mapping[str, Any]
  count: int


class RequestMedia:
  """Reads media for a model, those that requests share only once."""

  def __init__(self, limits: ServingLimits, cache: FeatureCache, encode_cache: str = ""):
    self._limits = limits
    self._cache = cache
    self._encode_cache = encode_cache
    self._digests = ContentDigests()
    self._probes: dict[str, media_probe.Probe] = {}
    self.shared = SharedReads()

  def read_medium(
    self, loaded: LoadedModel, medium: Medium, is_alone: bool
  ) -> ReadVideo | ReadPicture:
    """A medium's frames or pixels.

    is_alone: it is the only medium of its request. Raises RequestError.
    """
    with reported(medium):
      if medium.kind == IMAGE:
        return self._read_picture(loaded, medium, is_alone)
      return self._read_video(loaded, medium)

  def _media_limits(self, loaded: LoadedModel) -> Limits:
    """The checkpoint's bounds, and not beyond those of the server."""
    limits = loaded.processor.limits
    seconds = min(limits.decode_seconds, self._limits.decode_seconds)
    pixels = self._limits.pixels
    return dataclasses.replace(limits, decode_seconds=seconds, video_pixels=pixels)

  def _read_picture(self, loaded: LoadedModel, medium: Medium, is_alone: bool) -> ReadPicture:
    path = medium.paths[0]
    images = loaded.processor.data["images"]
    facts = [self._digests.of_file(path), dict(images), is_alone, str(loaded.model.encoder)]
    key = _digest(["picture", *facts])
    encoded = self._cache.cached_media(key)
    if encoded is not None:
      return ReadPicture(key, encoded=encoded)
    limits = self._media_limits(loaded)
    any_size = dataclasses.replace(limits, image_pixels=_ANY_PIXELS)
    width, height = pictures.shown_size(path, any_size)
    _check_pixels(width, height, medium, self._limits)

    def read_pixels() -> np.ndarray:
      return media_frames.read_picture(Scene(path, kind="image"), limits)

    picture = self.shared.read_once(key, read_pixels, self._limits.decode_seconds)
    views = tiles.views(width, height, images, loaded.model.encoder.size, is_alone)
    return ReadPicture(key, picture, views)

  def _read_video(self, loaded: LoadedModel, medium: Medium) -> ReadVideo:
    limits = self._media_limits(loaded)
    if len(medium.paths) > 1:
      timeline, extent = _picture_timeline(medium, self._limits)
      start = 0.0
      duration = extent.duration
    else:
      timeline, extent, duration = self._file_timeline(loaded, medium, limits)
      start = medium.frame_settings.start
    chosen = _chosen_frames(loaded, medium, extent, self._limits)
    _check_context(loaded, chosen.count, medium)
    times = frame_sampling.sample_times(chosen.sampling, chosen.count, extent)
    read = ReadVideo(
      key=self._video_key(loaded, medium, timeline, times),
      times=times,
      start=start,
      end=start + extent.duration,
      duration=duration,
      timeline=frame_sampling.readable(timeline, chosen.sampling),
      is_lasting=medium.is_lasting,
    )
    encoded = self._cache.cached_media(read.key)
    if encoded is None and self._keeps_in_folder(loaded, read):
      encoded = encode_long.find_encoded(
        self._encode_cache, loaded, read.timeline, times, extent.duration
      )
    if encoded is not None:
      return dataclasses.replace(read, encoded=encoded)

    def read_frames() -> DecodedVideo:
      return video_lib.decode_extent(
        timeline,
        extent,
        chosen.count,
        chosen.sampling,
        loaded.model.encoder.size,
        limits,
        loaded.processor.resize,
      )

    video = self.shared.read_once(read.key, read_frames, self._limits.decode_seconds)
    return dataclasses.replace(read, video=video)

  def _keeps_in_folder(self, loaded: LoadedModel, read: ReadVideo) -> bool:
    """Whether --encode-cache holds the visual tokens of a video.

    Its keys have the path, so it would find no file of a request again.
    """
    return bool(self._encode_cache) and read.is_lasting and encode_long.can_stream(loaded.model)

  def keep_in_folder(self, loaded: LoadedModel, read: ReadVideo, encoded: EncodedMedia) -> None:
    """Writes visual tokens to --encode-cache."""
    if self._keeps_in_folder(loaded, read) and read.video is not None:
      encode_long.keep_encoded(
        self._encode_cache, loaded, read.timeline, read.times, encoded.table, read.video.times
      )

  def _file_timeline(
    self, loaded: LoadedModel, medium: Medium, limits: Limits
  ) -> tuple[Timeline, frame_sampling.Extent, float]:
    """(timeline, its extent, seconds of the whole file) of a file's part."""
    path = medium.paths[0]
    facts = self._probe(path, limits)
    _check_facts(facts, medium, self._limits)
    settings = medium.frame_settings
    scene = Scene(path, t0=settings.start, t1=settings.end)
    timeline = (scene,)
    extent = frame_sampling.extent(timeline, {path: facts}, loaded.processor.sampling)
    return timeline, extent, facts.duration

  def _probe(self, path: str, limits: Limits) -> media_probe.Probe:
    """The facts of a file, read once for each content. Raises MediaError."""
    digest = self._digests.of_file(path)
    facts = self._probes.get(digest)
    if facts is None:
      facts = media_probe.probe_or_raise(path, limits)
      if len(self._probes) >= _REMEMBERED:
        self._probes.clear()
      self._probes[digest] = facts
    return facts

  def _video_key(
    self, loaded: LoadedModel, medium: Medium, timeline: Timeline, times: np.ndarray
  ) -> str:
    model = loaded.model
    contents = [self._digests.of_file(path) for path in medium.paths]
    places = [(scene.kind, scene.t0, scene.t1, scene.at) for scene in timeline]
    parts = [str(model.encoder), str(model.selector), loaded.processor.resize]
    return _digest(["video", contents, places, times.tolist(), parts])


@contextlib.contextmanager
def reported(medium: Medium):
  """Converts errors about a medium to RequestError, without paths of the server."""
  try:
    yield
  except RequestError:
    raise
  except (TimeoutError, SlowMediaError) as error:
    text = f"{medium.label}: reading it takes too long (decode_seconds)."
    raise RequestError(text, status=504, code="decode_timeout") from error
  except LargeFrameError as error:
    text = f"{medium.label} has frames of more pixels than this server reads (pixels)."
    raise RequestError(text, code="too_many_pixels") from error
  except (ValueError, OSError) as error:
    text = " ".join(str(error).split())
    for path in medium.paths:
      text = text.replace(f"{path}: ", "").replace(path, "it")
    if isinstance(error, OSError):
      text = "It cannot be read."
    raise RequestError(f"{medium.label}: {text}", code="invalid_media") from error


def _digest(facts: list) -> str:
  return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def _check_facts(facts: media_probe.Probe, medium: Medium, limits: ServingLimits) -> None:
  """Raises RequestError for a video beyond the limits of the server."""
  if facts.duration > limits.video_seconds:
    raise RequestError(
      f"{medium.label} lasts {facts.duration:.1f} seconds; this server reads videos of at most "
      f"{limits.video_seconds:g} seconds (video_seconds).",
      code="video_too_long",
    )
  _check_pixels(facts.width, facts.height, medium, limits)
  start = medium.frame_settings.start
  if start and start >= facts.duration:
    raise RequestError(
      f"start={start:g} lies beyond {medium.label}, which lasts {facts.duration:.2f} seconds.",
      parameter="start",
    )


def _check_pixels(width: int, height: int, medium: Medium, limits: ServingLimits) -> None:
  if width * height > limits.pixels:
    raise RequestError(
      f"{medium.label} has {width} x {height} pixels; this server reads at most {limits.pixels} "
      "(pixels).",
      code="too_many_pixels",
    )


def _picture_timeline(
  medium: Medium, limits: ServingLimits
) -> tuple[Timeline, frame_sampling.Extent]:
  """A video that comes as pictures, one after another."""
  if len(medium.paths) > limits.frames:
    raise RequestError(
      f"{medium.label} has {len(medium.paths)} pictures; this server reads at most "
      f"{limits.frames} frames of a video (frames).",
      code="too_many_frames",
    )
  length = 1 / (medium.frame_settings.fps or _PICTURE_FPS)
  scenes = []
  facts = {}
  for number, path in enumerate(medium.paths):
    scenes.append(Scene(path, kind="still", t0=0.0, t1=length, at=number * length))
    facts[path] = media_probe.Probe(frames=1)
  timeline = tuple(scenes)
  return timeline, frame_sampling.extent(timeline, facts)


def _chosen_frames(
  loaded: LoadedModel, medium: Medium, extent: frame_sampling.Extent, limits: ServingLimits
) -> _Chosen:
  """How many frames are read, and which."""
  unit = video_lib.frame_unit(loaded.model)
  largest = max(1, limits.frames // unit) * unit
  sampling = dict(loaded.processor.sampling)
  settings = medium.frame_settings
  wanted = _wanted_frames(medium, extent)
  if wanted is None:
    sampling["frames"] = min(sampling["frames"], largest)
    return _Chosen(sampling, video_lib.count_frames(sampling, extent, unit))
  if wanted > limits.frames:
    raise RequestError(
      f"num_frames={settings.frames or '(none)'} and fps={settings.fps or '(none)'} are {wanted} "
      f"frames of {medium.label}; this server reads at most {limits.frames} (frames).",
      code="too_many_frames",
    )
  phase = sampling.get("phase", "middle")
  if len(medium.paths) > 1 or phase == "random":
    phase = "middle"
  count = min(largest, frame_size(wanted, unit))
  return _Chosen(dict(name="uniform", frames=count, phase=phase), count)


def _wanted_frames(medium: Medium, extent: frame_sampling.Extent) -> int | None:
  """The frames that a request asks for; None: the checkpoint's."""
  settings: FrameSettings = medium.frame_settings
  if len(medium.paths) > 1:
    return min(len(medium.paths), settings.frames or len(medium.paths))
  if settings.fps is None:
    return settings.frames
  wanted = max(1, round(extent.duration * settings.fps))
  return wanted if settings.frames is None else min(wanted, settings.frames)


def frame_size(wanted: int, unit: int) -> int:
  """The frames that are read for a number asked for.

  Every whole unit up to 64 of them, and then one of four sizes an octave, so that clients cannot
  make the server compile a program for every number.
  """
  units = -(-wanted // unit)
  if units > _EXACT:
    units = min(size for size in ladder(_EXACT, 4 * units) if size >= units)
  return units * unit


def _check_context(loaded: LoadedModel, count: int, medium: Medium) -> None:
  """Checks the visual tokens of a video before it is decoded."""
  model = loaded.model
  if not encode_long.can_stream(model):
    return
  layout = model.layout()
  tokens = count // layout.frames_per_group * layout.tokens_per_group
  context = context_length(model)
  if tokens >= context:
    raise RequestError(
      f"{count} frames of {medium.label} are {tokens} visual tokens, and the model reads {context} "
      "positions. Lower num_frames or fps.",
      code="context_length_exceeded",
    )
