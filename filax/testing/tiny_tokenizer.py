# SPDX-License-Identifier: Apache-2.0
"""A tokenizer small enough to train inside a test, with Qwen's control tokens."""

from collections.abc import Sequence
import pathlib

import tokenizers as hf

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPLIT = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
  r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = (
  "system\nuser\nassistant\nYou are a helpful assistant.",
  "a\n\nb" * 9,
  "What is shown in the video?\n\n",
  "The video lasts for 12.50 seconds, and 3 frames are uniformly sampled from it.",
  "a red circle",
  "This video samples 2 frames of a 9.00-second video at 1.50, 7.50 seconds. <image> im_start end",
)


def write_qwen_tokenizer(
  folder: pathlib.Path, texts: Sequence[str] = TEXTS, vocab: int = 400
) -> pathlib.Path:
  """Writes a byte-level BPE tokenizer.json in the form of Qwen2's.

  The control tokens are added after the base vocabulary.
  """
  bpe = hf.Tokenizer(hf.models.BPE())
  words = hf.pre_tokenizers.Split(hf.Regex(SPLIT), "isolated")
  bytes_of_words = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  bpe.pre_tokenizer = hf.pre_tokenizers.Sequence([words, bytes_of_words])
  bpe.decoder = hf.decoders.ByteLevel()
  trainer = hf.trainers.BpeTrainer(
    vocab_size=vocab,
    initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  bpe.train_from_iterator(texts, trainer)
  bpe.add_special_tokens(list(CONTROL_TOKENS))
  bpe.add_tokens([hf.AddedToken("<tool_call>", special=False)])
  path = folder / "tokenizer.json"
  bpe.save(str(path))
  return path
