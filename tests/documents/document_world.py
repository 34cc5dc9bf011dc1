# SPDX-License-Identifier: Apache-2.0
"""The folder in which documents run: tiny files of all names that they use."""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
import tarfile

from data_pipelines.synthesis import toy
from filax.cli.main import main
from filax.evals import registry
from filax.evals.benchmarks import mvbench
from filax.evals.kit import Source
from filax.testing import (
  benchmark_files,
  benchmark_files_more,
  clips,
  evaluation_results,
  manifests,
  tiny_tokenizer,
)

ROOT = pathlib.Path(__file__).parents[2]
LINKS = ("benchmarks", "configs", "examples", "launch")  # Of the repository.
VIDEOS = ("clip.mp4", "film.mp4", "lecture.mp4", "talk.mp4", "videos/lecture.mp4")
MANIFESTS = ("my.json", "train.json", "held_out.json", "questions.json", "llava.json")
MIXED = ("long_video.json", "captions.jsonl", "images.json", "swift.jsonl")
MIXTURE_PART = "annotations/image/textcaps.json"  # Of VideoChat-Flash's stage 3.
NEEDLE_QUESTION = (
  "Find the frame of a card. What is on it? Choose:\n"
  "Options: (A) a ball\n(B) a box\n(C) a bell\n(D) a boat\nOnly"
)
SIDE = 42  # Pixels of the encoder that `:debug` takes.
LLM = dict(  # The sizes of the language model that `:debug` takes, for transformers.
  vocab_size=512,
  hidden_size=32,
  intermediate_size=64,
  num_hidden_layers=3,
  num_attention_heads=4,
  num_key_value_heads=2,
  max_position_embeddings=32_768,
  rms_norm_eps=1e-6,
  rope_parameters=dict(rope_type="default", rope_theta=1e6),
  bos_token_id=None,
  eos_token_id=None,
)
ENCODER = dict(
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=3,
  num_attention_heads=4,
  image_size=SIDE,
  patch_size=14,
  vision_use_head=False,
)


@contextlib.contextmanager
def inside(folder: pathlib.Path) -> Iterator[None]:
  """Runs a block in a folder."""
  before = os.getcwd()
  os.chdir(folder)
  try:
    yield
  finally:
    os.chdir(before)


def make_world(folder: pathlib.Path) -> None:
  """Writes media, manifests, released folders, runs and results into an empty folder."""
  for name in LINKS:
    (folder / name).symlink_to(ROOT / name)
  shutil.copy(ROOT / "tests/documents/tiny_study.py", folder)
  with inside(folder):
    records = write_media(folder)
    write_manifests(folder, records)
    write_annotations(folder)
    write_benchmarks(folder / "DIR")
    write_released_folders(folder)
    write_runs(folder)
    write_results(folder)


def run_filax(*words: str) -> None:
  """Runs a command that must succeed."""
  if main(list(words)):
    raise RuntimeError(f"filax {' '.join(words)} failed.")


def write_media(folder: pathlib.Path) -> list[dict]:
  """Writes the corpus of `:debug` and videos; returns records of questions about them."""
  corpus = toy.tiny_corpus(folder / "runs/debug_corpus")
  shutil.copytree(corpus / "videos", folder / "videos")
  (source,) = (folder / "videos").glob("tiny-000.mp4")
  for name in VIDEOS:
    shutil.copy(source, folder / name)
  for name in ("market", "match"):
    shutil.copy(source, folder / f"videos/{name}.mp4")
  clips.write_picture(folder / "frame.jpg")
  records = json.loads((corpus / "manifest.json").read_text())
  for record in records:
    record.pop("root", None)
  return records


def write_manifests(folder: pathlib.Path, records: list[dict]) -> None:
  """Writes the manifests of all documents, and tokenizers that know their words."""
  few = records[:6]
  for name in (*MANIFESTS, *MIXED):
    manifests.write_manifest(folder / name, few)
  benchmark_files.write_parquet(folder / "hub/train-00000-of-00001.parquet", few)
  write_tar(folder / "shards/000000.tar", folder / "videos/tiny-000.mp4")
  question = "<video>\nWhat is seen?\nA. A ball.\nB. A box.\nC. A bell.\nD. A boat."
  choices = [manifests.question_record(question, "B", id=f"q{n}", video="clip.mp4") for n in (0, 1)]
  manifests.write_manifest(folder / "public.json", choices)
  texts = [turn["value"] for record in records for turn in record["conversations"]]
  texts = [*tiny_tokenizer.TEXTS, *texts]
  (folder / "my-tokenizer").mkdir()
  tiny_tokenizer.write_qwen_tokenizer(folder, texts)
  tiny_tokenizer.write_qwen_tokenizer(folder / "my-tokenizer", texts)
  shutil.copy(ROOT / "examples/extend/chat_template.jinja", folder / "my-tokenizer")
  rows = [manifests.question_record("Text?", "Yes.")] * 4
  part = folder / "data/vcf" / MIXTURE_PART
  part.parent.mkdir(parents=True)
  manifests.write_manifest(part, rows)


def write_tar(path: pathlib.Path, video: pathlib.Path) -> None:
  """Writes a WebDataset tar of one captioned video."""
  path.parent.mkdir()
  caption = path.with_suffix(".txt")
  caption.write_text("A ring is on red.")
  with tarfile.open(path, "w") as tar:
    tar.add(video, "000000.mp4")
    tar.add(caption, "000000.txt")
  caption.unlink()


def write_annotations(folder: pathlib.Path) -> None:
  """Writes captions of clips, annotated events, steps of recipes, and needles."""
  captions = []
  for number in range(6):
    video = f"academic_source/clip{number}.mp4"
    target = folder / "media/0_30_s" / video
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / f"videos/tiny-00{number}.mp4", target)
    text = f"The video begins with scene {number}."
    record = manifests.question_record("<image>\nDescribe the video.", text, id=f"clip-{number}")
    captions.append(record | dict(data_source="0_30_s", video=video))
  (folder / "captions").mkdir()
  manifests.write_manifest(folder / "captions/0_30_s_cap_processed.json", captions)
  lines = ["video,seconds,start,stop,text"]
  taxonomy = ["global_step_index,activity,step_index,variation,variation_index,headline,paragraph"]
  annotations = {}
  (folder / "DIR").mkdir()
  for step in range(4):
    taxonomy.append(f"{step},Make Soup,{step},none,1,Step number {step} of the soup.,")
  for number in range(4):
    shutil.copy(folder / f"videos/tiny-00{number}.mp4", folder / f"DIR/cooking{number}.mp4")
    segments = []
    for step in range(4):
      start = 1.5 * step
      lines.append(f"tiny-00{number}.mp4,7,{start},{start + 1},A dog does trick {step}")
      segments.append(dict(segment=[start, start + 1], id=step))
    annotations[f"cooking{number}"] = dict(
      subset="train", activity="Make Soup", annotations=segments
    )
  (folder / "events.csv").write_text("\n".join(lines) + "\n")
  (folder / "taxonomy.csv").write_text("\n".join(taxonomy) + "\n")
  (folder / "annotations.json").write_text(json.dumps(annotations))
  needles = []
  for number in range(2):
    image = f"needle{number}.jpg"
    clips.write_picture(folder / "pictures" / image, 200 + number)
    needles.append(dict(question=NEEDLE_QUESTION, answer="AB"[number], image=image))
  (folder / "needles.json").write_text(json.dumps(needles))


def write_benchmarks(folder: pathlib.Path) -> None:
  """Writes one question or a few of each benchmark that documents ask, with their videos."""
  row = benchmark_files.mvbench_row()
  tasks = {}
  for task, videos in mvbench.TASKS.items():
    tasks[task] = [row | dict(start=0.0, end=3.0) if videos.bounds else row]
  benchmark_files.write_mvbench(folder / "mvbench", tasks)
  benchmark_files_more.write_nextqa(folder / "nextqa")
  videomme = folder.parent / "data/videomme"
  benchmark_files.write_videomme(videomme, [benchmark_files.videomme_row()])
  clip = folder.parent / "clip.mp4"
  (videomme / "data").mkdir()
  shutil.copy(clip, videomme / "data/AbCdEfGhIjK.mp4")
  for name in ("mvbench", "nextqa"):
    write_benchmark_videos(name, folder / name, clip)
  shutil.copytree(folder.parent / "videos", folder / "videos")
  row = dict(id="1", video="tiny-000.mp4", question="Who?", answer="B", options=["A dog", "A cat"])
  (folder / "questions.json").write_text(json.dumps([row | dict(kind="pets")]))


def write_benchmark_videos(name: str, folder: pathlib.Path, clip: pathlib.Path) -> None:
  """Copies a clip to wherever the questions of a benchmark look for a video."""
  source = Source(str(folder), allow_missing=True)
  for example in registry.find_benchmark(name).read_examples(source):
    for timeline in example.media:
      for scene in timeline:
        path = pathlib.Path(scene.media)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
          shutil.copy(clip, path)


def write_released_folders(folder: pathlib.Path) -> None:
  """Writes a LLaVA-OneVision, a SigLIP and a Qwen2 of transformers, with random weights."""
  import torch
  import transformers

  transformers.logging.set_verbosity_error()
  torch.manual_seed(0)
  text = transformers.Qwen2Config(**LLM, tie_word_embeddings=False)
  vision = transformers.SiglipVisionConfig(**ENCODER)
  whole = transformers.LlavaOnevisionConfig(
    vision_config=vision,
    text_config=text,
    image_token_index=500,
    video_token_index=501,
    tie_word_embeddings=False,
    vision_feature_layer=-1,
    image_grid_pinpoints=[[SIDE, SIDE]],
  )
  models = {
    "llava-onevision-qwen2-7b-ov-hf": transformers.LlavaOnevisionForConditionalGeneration(whole),
    "siglip-so400m-patch14-384": transformers.SiglipVisionModel(vision),
    "Qwen2-7B-Instruct": transformers.Qwen2ForCausalLM(text),
  }
  for name, model in models.items():
    model.save_pretrained(folder / name)
    shutil.copy(folder / "tokenizer.json", folder / name)


def write_runs(folder: pathlib.Path) -> None:
  """Trains both families for four steps, under all names that documents give such runs."""
  trained = folder / "runs/demo/stage2"
  config = "configs/fila_stage4.py:debug"
  run_filax("train", "--config", config, "--workdir", os.path.relpath(trained))
  run_filax("train", "--config", "configs/vcf_stage3.py:debug", "--workdir", "runs/vcf")
  for name in ("runs/stage4", "C"):
    shutil.copytree(trained, folder / name)
  source = "llava-onevision-qwen2-7b-ov-hf"
  run_filax("convert", "from", "--source", source, "--out", "runs/llava_ov")


def write_results(folder: pathlib.Path) -> None:
  """Writes invented results of evaluations."""
  for number, name in enumerate(("runs/a/mvbench", "runs/b/mvbench", "runs/demo/results")):
    rows = evaluation_results.answer_rows(12, seed=number)
    evaluation_results.write_results(folder / name, rows, benchmark="mvbench")
