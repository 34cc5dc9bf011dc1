# SPDX-License-Identifier: Apache-2.0
"""Folders that transformers writes, and folders in the form of VideoChat-Flash, as checkpoints."""

import hf_llava
import pytest
from released_flash import released
import tokenizers as hf_tokenizers

import filax
from filax.convert import config_in
from filax.testing import clips

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """An empty cache of the user."""
  monkeypatch.setenv("FILAX_CACHE", str(tmp_path / "cache"))


def write_tokenizer(folder, size):
  """A byte-level tokenizer of `size` tokens with those of ChatML, as Qwen2 has it."""
  bpe = hf_tokenizers.Tokenizer(hf_tokenizers.models.BPE())
  bpe.pre_tokenizer = hf_tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  bpe.decoder = hf_tokenizers.decoders.ByteLevel()
  alphabet = hf_tokenizers.pre_tokenizers.ByteLevel.alphabet()
  trainer = hf_tokenizers.trainers.BpeTrainer(
    vocab_size=size, initial_alphabet=alphabet, show_progress=False
  )
  bpe.train_from_iterator(["hello world"], trainer)
  bpe.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
  bpe.save(str(folder / "tokenizer.json"))


def test_a_model_of_transformers_answers(tmp_path):
  folder = hf_llava.write(tmp_path / "hub", hf_llava.tiny(vocab=320), "A")
  write_tokenizer(folder, 270)
  session = filax.load(folder)
  assert session.processor.infer["selector"]["name"] == "uniform"
  assert session.processor.resize == "pillow"  # As SigLIP's image processor resizes.
  video = clips.write_video(tmp_path / "a.mp4", 12)
  assert isinstance(session.ask(video, "hello", max_new_tokens=3), str)


def test_a_folder_of_videochat_flash_answers(tmp_path, monkeypatch):
  monkeypatch.setattr(config_in, "TOWERS", (("umt", "umt", "tiny"),))
  released(tmp_path / "hub", "umt", vocab=320, positions=4096)
  write_tokenizer(tmp_path / "hub", 270)
  session = filax.load(tmp_path / "hub")
  assert session.processor.sampling["name"] == "dynamic_fps"
  video = clips.write_video(tmp_path / "a.mp4", 12)
  assert isinstance(session.ask(video, "hello", max_new_tokens=3), str)
