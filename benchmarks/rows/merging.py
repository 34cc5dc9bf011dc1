# SPDX-License-Identifier: Apache-2.0
"""What reduces frames and tokens: token merging, K-Means with history, weighted fusion."""

from benchmarks.row import OURS, BenchmarkRow, Repetition, Side
from benchmarks.rows.encoders import PLAIN_TORCH

WIDTH = 1152  # Width of SigLIP so400m.
SCENES = 32
STEPS = 50
TOKENS = 81  # Tokens of a frame; few, so that 10,000 frames fit in memory.


def _filax_tome(clips: int, tokens: int) -> Repetition:
  import jax

  from benchmarks import models
  from filax.ops import tome

  x = jax.random.normal(jax.random.key(0), (clips, tokens, 1024))
  merge = jax.jit(lambda x: tome.merge_clips(x, 64, 16, 16))

  def merge_frames():
    seconds, _ = models.timed_call(lambda: merge(x))
    return dict(seconds=seconds, amount=clips)

  return merge_frames


def _torch_tome(clips: int, tokens: int) -> Repetition:
  import torch

  from benchmarks import torch_models

  x = torch.randn(clips, tokens, 1024)

  def merge():
    for part in x.split(16):
      torch_models.merge_tokens(part, 64)

  def merge_frames():
    seconds, _ = torch_models.timed_torch(merge)
    return dict(seconds=seconds, amount=clips)

  return merge_frames


def _frame_features(frames: int):
  """Features of scenes of 40 frames, float32 [T D]."""
  import numpy as np

  rng = np.random.default_rng(0)
  scenes = rng.normal(0, 1, (frames // 40 + 1, WIDTH))
  noise = rng.normal(0, 0.5, (frames, WIDTH))
  return (scenes[np.arange(frames) // 40] + noise).astype(np.float32)


def _filax_kmeans(frames: int) -> Repetition:
  import jax
  import jax.numpy as jnp

  from benchmarks import models
  from filax.models.selectors.kmeans import KMeans

  x = jnp.asarray(_frame_features(frames))
  mask = jnp.ones(frames, bool)
  select = jax.jit(KMeans(scenes=SCENES, steps=STEPS).pick)

  def merge_frames():
    seconds, _ = models.timed_call(lambda: select(x, mask))
    return dict(seconds=seconds, amount=frames)

  return merge_frames


def _history(x, centers):
  """The frames of each scene, [C 3].

  They are the nearest to a centre, and the two before it that are most similar to it."""
  import numpy as np

  distance = (centers * centers).sum(-1) - 2 * x @ centers.T
  owner = distance.argmin(-1)
  places = np.arange(len(x))
  chosen = []
  for scene in range(len(centers)):
    members = places[owner == scene]
    if len(members):
      chosen.append(members[distance[members, scene].argmin()])
  unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
  groups = []
  before = -1
  for frame in sorted(chosen):
    candidates = np.arange(before + 1, frame)
    similarity = unit[candidates] @ unit[frame]
    groups.append([*candidates[np.argsort(-similarity)[:2]], frame])
    before = frame
  return groups


def _sklearn_kmeans(frames: int) -> Repetition:
  import time

  from sklearn.cluster import KMeans

  x = _frame_features(frames)

  def merge_frames():
    start = time.perf_counter()
    clustering = KMeans(SCENES, n_init=1, max_iter=STEPS, tol=0.0, random_state=0).fit(x)
    _history(x, clustering.cluster_centers_)
    return dict(seconds=time.perf_counter() - start, amount=frames, steps=clustering.n_iter_)

  return merge_frames


def _faiss_kmeans(frames: int) -> Repetition:
  import time

  import faiss

  x = _frame_features(frames)

  def merge_frames():
    start = time.perf_counter()
    settings = dict(niter=STEPS, min_points_per_centroid=1, max_points_per_centroid=frames)
    clustering = faiss.Kmeans(WIDTH, SCENES, seed=0, **settings)
    clustering.train(x)
    _history(x, clustering.centroids)
    return dict(seconds=time.perf_counter() - start, amount=frames)

  return merge_frames


def _torch_kmeans(frames: int) -> Repetition:
  import torch

  from benchmarks import torch_models

  x = torch.from_numpy(_frame_features(frames))

  def cluster():
    centers = torch_models.cluster_frames(x, SCENES, STEPS)
    return _history(x.numpy(), centers.numpy())

  def merge_frames():
    seconds, _ = torch_models.timed_torch(cluster)
    return dict(seconds=seconds, amount=frames)

  return merge_frames


def _filax_fusion(frames: int) -> Repetition:
  import jax
  import jax.numpy as jnp

  from benchmarks import models
  from filax.models.mergers.weighted import Weighted

  x = jax.random.normal(jax.random.key(0), (1, frames // 3, 3, TOKENS, WIDTH))
  merger = Weighted()
  params = dict(weight=jnp.full(x.shape[2:], 1 / 3))
  fuse = jax.jit(lambda params, x: merger.apply({"params": params}, x))

  def merge_frames():
    seconds, _ = models.timed_call(lambda: fuse(params, x))
    return dict(seconds=seconds, amount=frames)

  return merge_frames


def _torch_fusion(frames: int) -> Repetition:
  import torch

  from benchmarks import torch_models

  x = torch.randn(1, frames // 3, 3, TOKENS, WIDTH)
  weight = torch.full(x.shape[2:], 1 / 3)

  @torch.no_grad()
  def merge_frames():
    seconds, _ = torch_models.timed_torch(lambda: torch.einsum("bgkne,kne->bgne", x, weight))
    return dict(seconds=seconds, amount=frames)

  return merge_frames


def _torch_sum(frames: int) -> Repetition:
  import torch

  from benchmarks import torch_models

  x = torch.randn(1, frames // 3, 3, TOKENS, WIDTH)
  weight = torch.full(x.shape[2:], 1 / 3)

  @torch.no_grad()
  def merge_frames():
    seconds, _ = torch_models.timed_torch(lambda: (x * weight).sum(2))
    return dict(seconds=seconds, amount=frames)

  return merge_frames


ROWS = (
  BenchmarkRow(
    "tome",
    "token merging of clips, 1,024 wide, to 64 tokens",
    "clips/s",
    (Side(OURS, _filax_tome), Side("torch twin", _torch_tome, PLAIN_TORCH, threads=True)),
    shapes=(dict(clips=16, tokens=784), dict(clips=128, tokens=784)),
    full=(dict(clips=2500, tokens=784), dict(clips=64, tokens=3136)),
    axis="clips",
  ),
  BenchmarkRow(
    "kmeans",
    f"K-Means to {SCENES} scenes ({STEPS} steps) and history, 1,152 wide",
    "frames/s",
    (
      Side(OURS, _filax_kmeans),
      Side("scikit-learn", _sklearn_kmeans, (("sklearn", "scikit-learn"),)),
      Side("faiss", _faiss_kmeans, (("faiss", "faiss-cpu"),)),
      Side("torch twin", _torch_kmeans, PLAIN_TORCH, threads=True),
    ),
    shapes=(dict(frames=256), dict(frames=512), dict(frames=2048), dict(frames=10_000)),
    axis="frames",
  ),
  BenchmarkRow(
    "fusion",
    f"weighted fusion of groups of 3 frames of {TOKENS} tokens, 1,152 wide",
    "frames/s",
    (
      Side(OURS, _filax_fusion),
      Side("torch einsum", _torch_fusion, PLAIN_TORCH, threads=True),
      Side("torch sum", _torch_sum, PLAIN_TORCH, threads=True),
    ),
    shapes=(dict(frames=96), dict(frames=510)),
    full=(dict(frames=9999),),
    axis="frames",
  ),
)
