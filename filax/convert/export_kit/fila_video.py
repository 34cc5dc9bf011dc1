# SPDX-License-Identifier: Apache-2.0
"""What run_torch.py does around the networks: frames by time, scenes, the prompt. NumPy only.

The same numbers as FiLax: frames are those on screen at the sampled times (last pts <= t), resized
by swscale's bicubic or by Pillow's; K-Means starts from farthest points and re-seeds empty
clusters.
"""

import math

import numpy as np

TOLERANCE = 5e-4  # Seconds by which containers round their clocks.
SAME = 1e-8  # Squared distance, relative to its size, up to which a frame is its own centre.


def check(settings):
  """The settings, if all that they ask for is done here; else an end with one sentence."""
  infer = settings.get("infer", {})
  known = {
    "infer.sampling.name": (
      infer.get("sampling", {}).get("name", "uniform"),
      ("uniform", "dynamic_fps"),
    ),
    "infer.selector.name": (
      infer.get("selector", {}).get("name", "uniform"),
      ("uniform", "clips", "kmeans"),
    ),
    "infer.selector.seeds": (infer.get("selector", {}).get("seeds", "farthest"), ("farthest",)),
    "infer.time_prompt": (kind_of_time(settings), ("none", "fila", "llava", "vcf", "vcf_released")),
    "data.resize": (settings.get("data", {}).get("resize", "squash"), ("squash", "pillow")),
    "data.template": (
      settings.get("data", {}).get("template", "chatml"),
      ("chatml", "brief", "plain"),
    ),
    "model.llm.dropout": (settings["model"]["llm"].get("dropout") or "off", ("off",)),
  }
  for name, (value, can) in known.items():
    if value not in can:
      raise SystemExit(
        f"run_torch.py cannot do {name}={value!r}, only {' or '.join(can)}. Ask with filax chat, "
        f"or change it under fila_config in config.json."
      )
  return settings


def kind_of_time(settings):
  """What the question says about frame times: as when answering, else as in training."""
  trained = settings.get("data", {}).get("time_prompt", "none")
  return settings.get("infer", {}).get("time_prompt", trained)


def yarn(llm):
  """The rope_scaling of transformers for an llm that reads beyond its trained length."""
  if not llm.get("yarn"):
    return None
  factor, positions, *options = llm["yarn"]
  return dict(
    type="yarn",
    rope_type="yarn",
    factor=factor,
    original_max_position_embeddings=positions,
    **dict(*options),
  )


def times_of(path):
  """Seconds of every frame since the first, and the duration of the video."""
  import av

  with av.open(str(path)) as video:
    stream = video.streams.video[0]
    first = stream.start_time or 0
    ticks = sorted(p.pts for p in video.demux(stream) if p.pts is not None)
    times = (np.array(ticks) - first) * float(stream.time_base)
    duration = float((stream.duration or 0) * stream.time_base)
  return times, duration or float(times[-1] + times[-1] / max(1, len(times) - 1))


def read(path, settings, size):
  """(frames uint8 [T h w 3], times [T], duration): the frames on screen at the sampled times."""
  import av

  shown, duration = times_of(path)
  sampling = dict(settings["infer"]["sampling"])
  count = sampling["frames"]
  if sampling["name"] == "dynamic_fps":
    count = dynamic(sampling, len(shown), duration, unit_of(settings))
  wanted = sample_times(sampling["phase"], count, len(shown), duration)
  place = np.clip(np.searchsorted(shown, wanted + TOLERANCE, side="right") - 1, 0, None)
  found = {}
  with av.open(str(path)) as video:
    stream = video.streams.video[0]
    for number, frame in enumerate(video.decode(stream)):
      if number in place:
        found[number] = resized(frame, size, settings.get("data", {}).get("resize", "squash"))
  return np.stack([found[n] for n in place]), shown[place].astype(np.float32), duration


def resized(frame, size, resize):
  """A decoded frame, turned as its file says, as uint8 [size size 3]."""
  from av.video.reformatter import Interpolation, VideoReformatter

  turned = lambda picture: np.rot90(picture.to_ndarray(), round(frame.rotation / 90) % 4)
  options = dict(format="rgb24", threads=1)
  if resize == "pillow":
    from PIL import Image

    whole = Image.fromarray(turned(VideoReformatter().reformat(frame, **options)))
    return np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC))
  scale = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
  return turned(
    VideoReformatter().reformat(frame, width=size, height=size, interpolation=scale, **options)
  )


def unit_of(settings):
  """The number of frames is a multiple of this: whole clips, and groups of neighbours."""
  selector = settings["infer"]["selector"]
  groups = selector["size"] if selector["name"] in ("uniform", "clips") else 1
  return math.lcm(settings["model"]["encoder"]["clip"], groups)


def dynamic(sampling, frames, duration, unit):
  """About a frame a second within limits, in whole multiples; the lower limit wins."""
  multiple, low, high = sampling.get("multiple", unit), sampling.get("low", 64), sampling["frames"]
  if low > frames:
    low = frames // multiple * multiple
  count = max(multiple, int(duration * sampling.get("fps", 1.0) / multiple) * multiple)
  return max(low, min(count, high) if high else count)


def sample_times(phase, count, frames, duration):
  """Seconds of the candidate frames of a video of `frames` frames."""
  last = max(0.0, duration - duration / frames)
  if phase == "ends":
    return np.linspace(0.0, last, count)
  if phase == "released":  # VideoChat-Flash: middles of intervals cut to whole frames.
    intervals = min(count, frames)
    edges = np.linspace(0, frames, intervals + 1).astype(np.int64)
    index = (edges[:-1] + edges[1:] - 1) // 2
    index = np.concatenate([index, np.repeat(index[-1:], count - intervals)])
    return np.minimum((index + 0.5) * (duration / frames), last)
  return np.minimum((np.arange(count) + 0.5) * (duration / count), last)


def select(means, selector, distinct):
  """means float32 [T E] -> frames of every group [G K] in time order."""
  size = selector["size"]
  if selector["name"] in ("uniform", "clips"):
    return np.arange(len(means)).reshape(-1, size)
  real = np.flatnonzero(distinct)
  means, count = means[real], selector["scenes"]
  if len(real) < count * size:
    return real[spread(len(real), count * size)].reshape(count, size)
  index = scenes(means, count, selector.get("steps", 50))
  return real[history(means, index, size, selector.get("history", "similar"))]


def spread(last, count):
  """`count` of `last` places, evenly from the first to the last."""
  return np.arange(count) * (last - 1) // max(count - 1, 1)


def scenes(x, count, steps):
  """K-Means: the frame nearest to every centre, ascending [C]."""
  x = x - x.mean(0)
  centers = x[farthest(x, count)]
  for _ in range(steps):
    owner, _ = assign(x, centers)
    member = np.eye(count, dtype=np.float32)[owner]
    size = member.sum(0)[:, None]
    centers = np.where(size > 0, member.T @ x / np.maximum(size, 1), centers)
  owner, gap = assign(x, centers)
  used = np.zeros(len(x), bool)
  for cluster in np.unique(owner):
    used[np.argmin(np.where(owner == cluster, gap, np.inf))] = True
  while used.sum() < count:  # A still video: the largest gaps in time are filled first.
    places, known = np.arange(len(x)), np.flatnonzero(used)
    used[np.argmax(np.abs(places[:, None] - known).min(1))] = True
  return np.flatnonzero(used)


def farthest(x, count):
  """The frame nearest to the mean, then always the one farthest from those before."""
  index, gap = [int(np.argmin((x**2).sum(-1)))], np.full(len(x), np.inf, np.float32)
  while len(index) < count:
    gap = np.minimum(gap, ((x - x[index[-1]]) ** 2).sum(-1))
    index.append(int(np.argmax(gap)))
  return index


def assign(x, centers):
  """The centre of every frame and its squared distance; empty clusters take the farthest frames."""
  owner = np.argmin((centers**2).sum(-1) - 2 * x @ centers.T, axis=-1)
  gap = ((x - centers[owner]) ** 2).sum(-1)
  far = np.argsort(-np.where(gap > SAME * (x**2).sum(-1), gap, -1), kind="stable")
  before = gap.copy()
  for cluster, frame in zip(sorted(set(range(len(centers))) - set(owner)), far, strict=False):
    if before[frame] > SAME * (x[frame] ** 2).sum():
      owner[frame], gap[frame] = cluster, 0
  return owner, gap


def history(x, index, size, order):
  """Every representative with the size - 1 frames before it that are most like it [C K]."""
  x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30)
  found = []
  for before, at in zip([-1, *index[:-1]], index, strict=True):
    inside = np.arange(before + 1, at)
    score = x[inside] @ x[at] * (1 if order == "similar" else -1)
    best = inside[np.argsort(-score, kind="stable")[: size - 1]]
    found.append(np.sort([*best, *[at] * (size - len(best))]))
  return np.array(found)


class Tokenizer:
  """tokenizer.json or tokenizer.model, text only; control tokens by name."""

  def __init__(self, folder):
    if (folder / "tokenizer.json").exists():
      import tokenizers

      self.inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
      self.encode = lambda text: self.inner.encode(text, add_special_tokens=False).ids
      self.id = self.inner.token_to_id
    else:
      import sentencepiece

      self.inner = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
      self.encode, self.id = self.inner.encode, self.inner.piece_to_id

  def decode(self, ids, controls):
    return self.inner.decode([int(i) for i in ids if int(i) not in controls])


def prompt(tokenizer, settings, question, duration, times, group_times):
  """(ids before the video, ids after it)."""
  data, kind = settings["data"], kind_of_time(settings)
  if data["template"] == "plain":
    return [], []
  start, stop = tokenizer.id("<|im_start|>"), tokenizer.id("<|im_end|>")
  after, last = time_prompt(kind, duration, times, group_times)
  line = "" if kind == "vcf_released" else "\n"  # As that model was released.
  text, system = f"{after}{line}{question}{last}", data["system"]
  if data["template"] == "brief":
    first = [start, *tokenizer.encode(system), stop] if system else []
    return [*first, start], [*tokenizer.encode(text.strip("\n")), stop]
  first = [start, *tokenizer.encode("system\n" + system), stop, *tokenizer.encode("\n")]
  return [*(first if system else []), start, *tokenizer.encode("user\n")], [
    *tokenizer.encode(text),
    stop,
    *tokenizer.encode("\n"),
    start,
    *tokenizer.encode("assistant\n"),
  ]


def stops(tokenizer, settings):
  """The ids that end an answer; in template plain that is the newline as well."""
  line = tokenizer.encode("\n") if settings["data"]["template"] == "plain" else []
  return [*settings["stop"], *(line if len(line) == 1 else [])]


def time_prompt(kind, duration, times, group_times):
  """(text right after the video, text after the question)."""
  if kind == "fila":
    listed = ", ".join(f"{t:.2f}" for t in group_times)
    return "", (
      f" This video samples {len(group_times)} frames of a {duration:.2f}-second video "
      f"at {listed} seconds."
    )
  if kind == "llava":
    listed = ",".join(f"{t:.2f}s" for t in times)
    return (
      f"\nThe video lasts for {duration:.2f} seconds, and {len(times)} frames are uniformly "
      f"sampled from it. These frames are located at {listed}.Please answer the following "
      f"questions related to this video."
    ), ""
  if kind.startswith("vcf"):
    return (
      f"\nThe video lasts for {duration:.2f} seconds, and {len(times)} frames are uniformly "
      f"sampled from it. "
    ), ""
  return "", ""
