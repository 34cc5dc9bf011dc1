# SPDX-License-Identifier: Apache-2.0
"""LLaVA-OneVision in and out: every naming scheme, logits <= 1e-4 in float32, exact round trips."""

import json
import pathlib

import hf_llava
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import load_file
import tokenizers as hf_tokenizers
import torch
import transformers

import filax
from filax.checkpoint import store, streamed
from filax.checkpoint.tuples import as_tuples
from filax.cli import main as command
from filax.convert import export_folder, import_folder, import_inputs
from filax.models import components
from filax.spec import TEXT
from filax.testing import clips

pytestmark = pytest.mark.slow

CASES = {  # scheme -> options of the model, options of the folder
  "A": (dict(), dict()),
  "A sharded": (dict(grid=5), dict(shards=3)),
  "A pickled": (dict(), dict(shards=2, pickled=True)),
  "A without index": (dict(tied=True), dict(shards=2, index=False)),
  "B": (dict(grid=5, tied=True), dict(shards=2)),
  "C": (dict(), dict(legacy=False)),
  "D": (dict(tied=True), dict(legacy=False)),
  "E": (dict(), dict(shards=2)),
  "E tied": (dict(tied=True, grid=5), dict()),
  "D layer before the last": (dict(feature_layer=-2, layers=4), dict(legacy=False)),
  "A padded vocabulary": (dict(vocab=576), dict()),
}


def imported(folder, out, theirs, scheme, **options):
  sets = hf_llava.sizes(theirs) if scheme == "E" else {}
  report = import_folder.import_checkpoint(
    import_inputs.ImportRequest(out=out, source=folder, sets=sets, **options)
  )
  step = streamed.step_folder(out)
  config = as_tuples(streamed.read_json(step, "config"))
  params, missing, extra = store.restore_params(out)
  assert (missing, extra) == ([], [])
  return components.build_video_lm(config["model"]), params, report


def rows(model, theirs, frames, pictures=0):
  """A batch of two rows with `frames` frames of video each, right-padded, and what torch reads.

  Row 0: text, its video, text. Row 1: text, a video of half as many frames, text.
  """
  rng = np.random.default_rng(1)
  size, layout = model.encoder.size, model.layout()
  counts, length = (frames, frames // 2), 16 + frames * layout.tokens_per_group
  batch = dict(
    frames=rng.integers(0, 256, (2, frames, size, size, 3)).astype(np.uint8),
    images=np.zeros((2, 0, size, size, 3), np.uint8),
    frame_segment_ids=np.zeros((2, frames), np.int32),
    tokens=np.zeros((2, length), np.int32),
    segment_ids=np.zeros((2, length), np.int32),
    positions=np.tile(np.arange(length, dtype=np.int32), (2, 1)),
    visual_index=np.full((2, length), TEXT, np.int32),
  )
  ids = np.zeros((2, length), np.int64)
  for row, count in enumerate(counts):
    shown = count * layout.tokens_per_group
    text = rng.integers(0, hf_llava.IMAGE, 12)
    whole = np.concatenate([text[:5], np.full(shown + 1, hf_llava.VIDEO), text[5:]])
    ids[row, : len(whole)] = whole
    batch["segment_ids"][row, : len(whole)] = 1
    batch["frame_segment_ids"][row, :count] = 1
    batch["tokens"][row, : len(whole)] = np.where(whole == hf_llava.VIDEO, 0, whole)
    batch["visual_index"][row, 5 : 5 + shown] = np.arange(shown)
    batch["visual_index"][row, 5 + shown] = frames * layout.tokens_per_group
  return batch, ids, counts


def logits_of_ours(model, params, batch):
  apply = jax.jit(
    lambda p, b: model.apply({"params": p}, model.apply({"params": p}, b), method="logits")
  )
  return np.asarray(apply(params, {k: jnp.asarray(v) for k, v in batch.items()}))


@pytest.mark.parametrize("name", CASES)
def test_two_videos_of_different_lengths_give_their_logits(name, tmp_path):
  sizes, options = CASES[name]
  scheme = name[0]
  theirs = hf_llava.tiny(**sizes)
  folder = hf_llava.write(tmp_path / "hub", theirs, scheme, **options)
  model, params, report = imported(folder, tmp_path / "run", theirs, scheme)
  assert set(report["scheme"].values()) == {scheme}
  counts = report["counts"]
  used = counts["consumed"] + counts["unused_by_design"]
  assert used == len(hf_llava.state(theirs, scheme))
  batch, ids, frames = rows(model, theirs, 2)
  ours = logits_of_ours(model, params, batch)
  for row, count in enumerate(frames):
    length = int(batch["segment_ids"][row].sum())
    with torch.no_grad():
      expected = (
        theirs(
          input_ids=torch.tensor(ids[row : row + 1, :length]),
          pixel_values_videos=hf_llava.pixels(batch["frames"][row, :count]),
        )
        .logits[0]
        .numpy()
      )
    np.testing.assert_allclose(ours[row, :length], expected, atol=1e-4, rtol=1e-4)


def test_an_image_and_plain_text_give_their_logits(tmp_path):
  theirs = hf_llava.tiny()
  folder = hf_llava.write(tmp_path / "hub", theirs, "A")
  model, params, _ = imported(folder, tmp_path / "run", theirs, "A")
  rng = np.random.default_rng(2)
  size, count = model.encoder.size, model.layout().tokens_per_image
  picture = rng.integers(0, 256, (1, 1, size, size, 3)).astype(np.uint8)
  text = rng.integers(0, hf_llava.IMAGE, 9)
  tokens = np.stack(
    [
      np.concatenate([text[:4], np.zeros(count, int), text[4:]]),
      rng.integers(0, hf_llava.IMAGE, count + 9),
    ]
  ).astype(np.int32)
  index = np.full(tokens.shape, TEXT, np.int32)
  index[0, 4 : 4 + count] = np.arange(count)
  batch = dict(
    frames=np.zeros((2, 0, size, size, 3), np.uint8),
    frame_segment_ids=np.zeros((2, 0), np.int32),
    images=np.repeat(picture, 2, 0),
    tokens=tokens,
    segment_ids=np.ones_like(tokens),
    visual_index=index,
    positions=np.tile(np.arange(tokens.shape[1], dtype=np.int32), (2, 1)),
  )
  ours = logits_of_ours(model, params, batch)
  with torch.no_grad():
    features = theirs.model.vision_tower(
      hf_llava.pixels(picture[0])[0], output_hidden_states=True
    ).hidden_states[-1]
    shown = theirs.model.multi_modal_projector(features)[0]
    x = theirs.get_input_embeddings()(torch.tensor(tokens).long())
    x[0, 4 : 4 + count] = shown
    expected = theirs(inputs_embeds=x).logits.numpy()
  np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", ["hf", "hf-remote", "llava"])
def test_a_round_trip_is_exact_to_the_bit(form, tied, kind, tmp_path):
  theirs = hf_llava.tiny(tied=tied)
  source = hf_llava.write(tmp_path / "hub", theirs, "A", getattr(torch, kind))
  imported(source, tmp_path / "run", theirs, "A")
  export_folder.export_checkpoint(
    export_folder.ExportRequest(tmp_path / "run", tmp_path / "out", form, shard=60_000)
  )
  scheme = {"hf": "A", "hf-remote": "B", "llava": "E"}[form]
  before = hf_llava.state(theirs, scheme, getattr(torch, kind))
  after = {}
  for file in (tmp_path / "out").glob("*.safetensors"):
    after |= load_file(file)
  assert after.keys() == before.keys()
  for name, x in before.items():
    assert after[name].dtype == x.dtype and torch.equal(after[name], x), name
  _, params, _ = imported(tmp_path / "out", tmp_path / "again", theirs, "A")
  first, _, _ = store.restore_params(tmp_path / "run")
  jax.tree.map(np.testing.assert_array_equal, params, first)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_export_loads_with_no_key_missing_or_left_over(tied, kind, tmp_path):
  theirs = hf_llava.tiny(tied=tied)
  source = hf_llava.write(tmp_path / "hub", theirs, "A")
  imported(source, tmp_path / "run", theirs, "A")
  request = export_folder.ExportRequest(tmp_path / "run", tmp_path / "out", "hf", dtype=kind)
  assert export_folder.export_checkpoint(request)["counts"]["left_over"] == 0
  back, info = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
    tmp_path / "out", output_loading_info=True
  )
  for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
    assert not info[key]
  for name, x in back.state_dict().items():
    assert torch.equal(x, theirs.state_dict()[name].to(x.dtype)), name
  assert back.config.text_config.rope_parameters["rope_theta"] == 1e6
  assert back.dtype == getattr(torch, kind)


def test_tensors_of_bfloat16_in_a_pickle(tmp_path):
  theirs = hf_llava.tiny()
  source = hf_llava.write(tmp_path / "hub", theirs, "E", torch.bfloat16, pickled=True)
  _, params, _ = imported(source, tmp_path / "run", theirs, "E")
  x = theirs.state_dict()["lm_head.weight"].to(torch.bfloat16).float().numpy()
  np.testing.assert_array_equal(
    np.asarray(params["llm"]["lm_head"]["kernel"], np.float32)[:, : len(x)], x.T
  )


def test_a_pickle_that_runs_code_is_refused(tmp_path):
  theirs = hf_llava.tiny()
  source = hf_llava.write(tmp_path / "hub", theirs, "A", pickled=True)

  class Evil:
    def __reduce__(self):
      return pathlib.Path.touch, (tmp_path / "touched",)

  torch.save({"a": Evil()}, source / "pytorch_model.bin")
  with pytest.raises(
    ValueError, match="weights_only=True: it is damaged, or holds more than tensors"
  ):
    imported(source, tmp_path / "run", theirs, "A")
  assert not (tmp_path / "touched").exists() and not (tmp_path / "run").exists()


def test_the_tokenizer_goes_along_and_knows_the_placeholders(tmp_path):
  bpe = hf_tokenizers.Tokenizer(hf_tokenizers.models.BPE())
  bpe.pre_tokenizer = hf_tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  bpe.decoder = hf_tokenizers.decoders.ByteLevel()
  bpe.train_from_iterator(
    ["hello world"],
    hf_tokenizers.trainers.BpeTrainer(
      vocab_size=270,
      initial_alphabet=hf_tokenizers.pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
    ),
  )
  bpe.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
  theirs = hf_llava.tiny(vocab=320)
  source = hf_llava.write(tmp_path / "hub", theirs, "A")
  bpe.save(str(source / "tokenizer.json"))
  for argv in (
    ["from", "--source", source, "--out", tmp_path / "run"],
    ["to", "--checkpoint", tmp_path / "run", "--out", tmp_path / "out"],
  ):
    assert command.main(["convert", *map(str, argv)]) == 0
  session = filax.load(tmp_path / "run")
  video = clips.write_video(tmp_path / "a.mp4", 12)
  assert isinstance(session.ask(video, "hello", max_new_tokens=3), str)
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  back = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
  assert back.convert_tokens_to_ids(["<image>", "<video>"]) == [
    config["image_token_index"],
    config["video_token_index"],
  ]
  assert back("hello world").input_ids == bpe.encode("hello world").ids
  stop = [back.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]
  assert (
    json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == stop
  )
  text = back.apply_chat_template(
    [dict(role="user", content=[dict(type="text", text="Hi"), dict(type="video")])],
    tokenize=False,
    add_generation_prompt=True,
  )
  assert text == (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<video>\nHi"
    "<|im_end|>\n<|im_start|>assistant\n"
  )


def test_the_export_carries_processors_that_scale_to_one(tmp_path):
  theirs = hf_llava.tiny()
  source = hf_llava.write(tmp_path / "hub", theirs, "A")
  imported(source, tmp_path / "run", theirs, "A")
  export_folder.export_checkpoint(
    export_folder.ExportRequest(tmp_path / "run", tmp_path / "out", "hf")
  )
  processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
  assert list(processor.image_mean) == [0.5] * 3 and processor.size["height"] == 42
  index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
  assert len(index["weight_map"]) == len(hf_llava.state(theirs, "A"))
