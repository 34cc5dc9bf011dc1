# SPDX-License-Identifier: Apache-2.0
"""Video input, prompt and answer for run_torch.py.

The numbers are those of FiLax: frames are those on screen at the sampled times (last pts <= t),
resized by swscale's or Pillow's bicubic; K-Means starts from farthest points and re-seeds empty
clusters. NumPy alone up to the prompt; torch and transformers for the answer.
"""

import argparse
from fractions import Fraction
import itertools
import json
import math
from typing import Any, cast

import numpy as np
import prompts

TOLERANCE = 5e-4  # Seconds by which containers round their clocks.
SAME = 1e-8  # Squared distance, relative to its size, up to which a frame is its own centre.


def supported_settings(settings):
  """The settings. Raises SystemExit if one is not supported here."""
  infer = settings.get("infer", {})
  data = settings.get("data", {})
  sampling = infer.get("sampling", {})
  selector = infer.get("selector", {})
  time_prompts = ("none", "fila", "llava", "vcf", "vcf_released")
  rows = (
    ("infer.sampling.name", sampling.get("name", "uniform"), ("uniform", "dynamic_fps")),
    ("infer.selector.name", selector.get("name", "uniform"), ("uniform", "clips", "kmeans")),
    ("infer.selector.seeds", selector.get("seeds", "farthest"), ("farthest",)),
    ("infer.time_prompt", time_prompt_name(settings), time_prompts),
    ("data.resize", data.get("resize", "squash"), ("squash", "pillow")),
    ("data.template", data.get("template", "chatml"), ("chatml", "brief", "plain", "chat")),
    ("model.llm.dropout", settings["model"]["llm"].get("dropout") or "off", ("off",)),
  )
  for name, value, supported in rows:
    if value not in supported:
      raise SystemExit(
        f"run_torch.py cannot do {name}={value!r}, only {' or '.join(supported)}. Ask with filax "
        f"chat, or change it under fila_config in config.json."
      )
  return settings


def time_prompt_name(settings):
  """The time prompt for inference; by default that of training."""
  trained = settings.get("data", {}).get("time_prompt", "none")
  return settings.get("infer", {}).get("time_prompt", trained)


def frame_times(path):
  """(seconds of every frame since the first, duration) of a video."""
  import av

  with av.open(str(path)) as video:
    stream = video.streams.video[0]
    time_base = cast(Fraction, stream.time_base)  # PyAV sets it for every stream of a file.
    first = stream.start_time or 0
    ticks = sorted(packet.pts for packet in video.demux(stream) if packet.pts is not None)
    times = (np.array(ticks) - first) * float(time_base)
    duration = float((stream.duration or 0) * time_base)
  if not duration:
    last = times[-1]
    duration = float(last + last / max(1, len(times) - 1))
  return times, duration


def read_video(path, settings, size):
  """(sampled frames uint8 [T h w 3], their times [T], duration)."""
  import av

  times, duration = frame_times(path)
  sampling = settings["infer"]["sampling"]
  count = sampling["frames"]
  if sampling["name"] == "dynamic_fps":
    count = dynamic_count(sampling, len(times), duration, frame_unit(settings))
  wanted = sample_times(sampling["phase"], count, len(times), duration)
  index = np.searchsorted(times, wanted + TOLERANCE, side="right") - 1
  index = np.clip(index, 0, None)
  resize = settings.get("data", {}).get("resize", "squash")
  pictures = {}
  with av.open(str(path)) as video:
    for number, frame in enumerate(video.decode(video.streams.video[0])):
      if number in index:
        pictures[number] = resized_picture(frame, size, resize)
  frames = np.stack([pictures[number] for number in index])
  return frames, times[index], duration


def resized_picture(frame, size, resize):
  """A decoded frame, upright, as uint8 [size size 3]."""
  from av.video.reformatter import Interpolation, VideoReformatter

  options: dict[str, Any] = dict(format="rgb24", threads=1)
  if resize != "pillow":
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    options |= dict(width=size, height=size, interpolation=flags)
  picture = VideoReformatter().reformat(frame, **options).to_ndarray()
  picture = np.rot90(picture, round(frame.rotation / 90) % 4)
  if resize == "pillow":
    from PIL import Image

    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)
  return picture


def frame_unit(settings):
  """The unit of frame counts: whole clips and whole groups of neighbours."""
  selector = settings["infer"]["selector"]
  group_size = selector["size"] if selector["name"] in ("uniform", "clips") else 1
  return math.lcm(settings["model"]["encoder"]["clip"], group_size)


def dynamic_count(sampling, frames, duration, unit):
  """The number of frames: about one per second, within limits.

  A multiple of `unit` or of the sampling's own multiple; the lower limit takes precedence.
  """
  multiple = sampling.get("multiple", unit)
  low = sampling.get("low", 64)
  high = sampling["frames"]
  if low > frames:
    low = frames // multiple * multiple
  multiples = int(duration * sampling.get("fps", 1.0) / multiple)
  count = max(multiple, multiples * multiple)
  if high:
    count = min(count, high)
  return max(low, count)


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


def select_frames(means, selector, times):
  """The frames of every group [G K] in time order.

  means: mean features float32 [T E], times [T].
  """
  size = selector["size"]
  if selector["name"] in ("uniform", "clips"):
    return np.arange(len(means)).reshape(-1, size)
  distinct = np.flatnonzero(np.diff(times, prepend=-np.inf) > 0)
  means = means[distinct]
  count = selector["scenes"]
  if len(distinct) < count * size:
    return distinct[even_places(len(distinct), count * size)].reshape(count, size)
  scenes = scene_frames(means, count, selector.get("steps", 50))
  groups = history_groups(means, scenes, size, selector.get("history", "similar"))
  return distinct[groups]


def even_places(last, count):
  """`count` places spread evenly over 0..`last` - 1."""
  return np.arange(count) * (last - 1) // max(count - 1, 1)


def scene_frames(x, count, steps):
  """K-Means: the frame nearest to every centre, ascending [C]."""
  x = x - x.mean(0)
  centers = x[farthest_frames(x, count)]
  for _ in range(steps):
    owner, _ = assign_frames(x, centers)
    member = np.eye(count, dtype=np.float32)[owner]
    size = member.sum(0)[:, None]
    mean = member.T @ x / np.maximum(size, 1)
    centers = np.where(size > 0, mean, centers)
  owner, gap = assign_frames(x, centers)
  chosen = np.zeros(len(x), bool)
  for cluster in np.unique(owner):
    chosen[np.argmin(np.where(owner == cluster, gap, np.inf))] = True
  while chosen.sum() < count:  # A still video: the largest gaps in time are filled first.
    gaps = np.abs(np.arange(len(x))[:, None] - np.flatnonzero(chosen))
    chosen[np.argmax(gaps.min(1))] = True
  return np.flatnonzero(chosen)


def farthest_frames(x, count):
  """Indices of farthest-point seeds, from the frame nearest to the mean on."""
  index = [int(np.argmin((x**2).sum(-1)))]
  gap = np.full(len(x), np.inf, np.float32)
  while len(index) < count:
    difference = x - x[index[-1]]
    gap = np.minimum(gap, (difference**2).sum(-1))
    index.append(int(np.argmax(gap)))
  return index


def assign_frames(x, centers):
  """(centre, squared distance) of every frame; empty clusters take the farthest."""
  distance = (centers**2).sum(-1) - 2 * x @ centers.T
  owner = np.argmin(distance, axis=-1)
  gap = ((x - centers[owner]) ** 2).sum(-1)
  is_far = gap > SAME * (x**2).sum(-1)
  farthest = np.argsort(-np.where(is_far, gap, -1), kind="stable")
  empty = sorted(set(range(len(centers))) - set(owner))
  for cluster, frame in zip(empty, farthest, strict=False):
    if is_far[frame]:
      owner[frame] = cluster
      gap[frame] = 0
  return owner, gap


def history_groups(x, scenes, size, order):
  """Every representative and its history [C K].

  History: the size - 1 most (or least) similar frames since the representative before.
  """
  norm = np.linalg.norm(x, axis=-1, keepdims=True)
  x = x / np.maximum(norm, 1e-30)
  sign = 1 if order == "similar" else -1
  groups = []
  previous = -1
  for scene in scenes:
    inside = np.arange(previous + 1, scene)
    score = x[inside] @ x[scene] * sign
    best = inside[np.argsort(-score, kind="stable")[: size - 1]]
    repeats = [scene] * (size - len(best))
    groups.append(np.sort([*best, *repeats]))
    previous = scene
  return np.array(groups)


class TextTokenizer:
  """tokenizer.json or tokenizer.model, text only; control tokens by name."""

  def __init__(self, folder):
    self.folder = folder
    self.is_json = (folder / "tokenizer.json").exists()
    if self.is_json:
      import tokenizers

      self.inner: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
      self.control_id = self.inner.token_to_id
      self.control_name = self.inner.id_to_token
    else:
      import sentencepiece

      self.inner = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
      self.control_id = self.inner.piece_to_id
      self.control_name = self.inner.id_to_piece

  def text_ids(self, text):
    """The ids of ordinary text."""
    if self.is_json:
      return self.inner.encode(text, add_special_tokens=False).ids
    return self.inner.encode(text)

  def text_of(self, ids, controls):
    """The text of ids, without the ids of control tokens."""
    return self.inner.decode([int(id) for id in ids if int(id) not in controls])


def prompt_ids(tokenizer, settings, question, duration, times, representative_times):
  """(ids before the video, ids after it)."""
  data = settings["data"]
  template = data["template"]
  if template == "plain":
    return [], []
  kind = time_prompt_name(settings)
  intro, ending = prompts.time_prompt(kind, duration, times, representative_times)
  line = "" if kind == "vcf_released" else "\n"  # As in the released model.
  text = f"{intro}{line}{question}{ending}"
  if template == "chat":
    return prompts.chat_prompt_ids(tokenizer, settings, text)
  start = tokenizer.control_id("<|im_start|>")
  stop = tokenizer.control_id("<|im_end|>")
  system = data["system"]
  before = []
  if template == "brief":
    if system:
      before = [start, *tokenizer.text_ids(system), stop]
    return [*before, start], [*tokenizer.text_ids(text.strip("\n")), stop]
  line_end = tokenizer.text_ids("\n")
  if system:
    before = [start, *tokenizer.text_ids("system\n" + system), stop, *line_end]
  before += [start, *tokenizer.text_ids("user\n")]
  after = [*tokenizer.text_ids(text), stop, *line_end]
  after += [start, *tokenizer.text_ids("assistant\n")]
  return before, after


def stop_ids(tokenizer, settings):
  """The ids that end an answer; template plain adds the newline."""
  ids = list(settings["stop"])
  if settings["data"]["template"] == "plain":
    line_end = tokenizer.text_ids("\n")
    if len(line_end) == 1:
      ids += line_end
  return ids


def dtype_option(dtype):
  """The argument of from_pretrained that sets the dtype, in this version."""
  import transformers

  major, minor = transformers.__version__.split(".")[:2]
  is_new = (int(major), int(minor)) >= (4, 56)
  return {"dtype" if is_new else "torch_dtype": dtype}


def llm_config(llm):
  """The config of transformers for an llm described in FiLax's terms."""
  import transformers

  classes = dict(qwen2="Qwen2Config", qwen3="Qwen3Config", llama="LlamaConfig")
  config_class = getattr(transformers, classes[llm["name"]])
  scaling = None
  if llm.get("yarn"):
    factor, positions, *options = llm["yarn"]
    scaling = dict(type="yarn", rope_type="yarn", factor=factor) | dict(*options)
    scaling["original_max_position_embeddings"] = positions
  if llm.get("stretch"):
    factor, low, high, positions = llm["stretch"]
    scaling = dict(rope_type="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high)
    scaling["original_max_position_embeddings"] = positions
  rope: dict[str, Any] = dict(rope_theta=llm["theta"], rope_scaling=scaling)  # In every version.
  return config_class(
    hidden_size=llm["width"],
    intermediate_size=llm["mlp"],
    num_hidden_layers=llm["depth"],
    num_attention_heads=llm["heads"],
    num_key_value_heads=llm["kv_heads"],
    head_dim=llm["head_dim"],
    vocab_size=llm["vocab"],
    rms_norm_eps=llm["eps"],
    max_position_embeddings=llm["positions"],
    tie_word_embeddings=llm["tied"],
    **rope,
  )


def generate_answer(llm, settings, tokenizer, before, table, after, max_new_tokens=None):
  """(ids, text) of the greedy answer.

  The prompt is the ids `before`, the visual tokens `table` [M D] and the ids `after`.
  """
  import torch
  import transformers

  embed = llm.get_input_embeddings()
  before = embed(torch.tensor(before, dtype=torch.long, device=table.device))
  after = embed(torch.tensor(after, dtype=torch.long, device=table.device))
  inputs = torch.cat([before, table, after])[None]
  stop = stop_ids(tokenizer, settings)
  unused_rows = list(range(settings["tokens"], embed.weight.shape[0]))
  # Without the folder's own settings, such as a repetition penalty: FiLax has none by default.
  llm.generation_config = transformers.GenerationConfig(
    max_new_tokens=max_new_tokens or settings["infer"]["max_new_tokens"],
    do_sample=False,
    eos_token_id=stop,
    pad_token_id=settings["pad"],
    suppress_tokens=unused_rows or None,
  )
  mask = torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device)
  ids = llm.generate(inputs_embeds=inputs, attention_mask=mask)[0].tolist()
  answer = list(itertools.takewhile(lambda id: id not in stop, ids))
  return answer, tokenizer.text_of(answer, settings["controls"]).strip()


def parse_options(description):
  """The command line of run_torch.py."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--video", required=True)
  parser.add_argument("--question", required=True)
  parser.add_argument("--max-new-tokens", type=int)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
  parser.add_argument("--device", default="cpu")
  parser.add_argument("--json", action="store_true", help="print the ids as well")
  return parser.parse_args()


def print_answer(ids, text, as_json):
  """Prints an answer as text, or with its ids as JSON."""
  print(json.dumps(dict(ids=ids, text=text)) if as_json else text)
