# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoints of both families whose tokenizer can write questions about cards."""

import importlib

import pytest

from data_pipelines.synthesis import needle_questions
import filax
from filax.testing import tiny_checkpoint


def spoken_texts():
  """What is asked and answered about cards, with the letters as answers."""
  texts = [f"assistant\n{letter}" for letter in "ABCD"] * 20
  records = needle_questions.choice_records(20) + needle_questions.text_records(20)
  for record in records + needle_questions.chain_records(6):
    for key, value in record.items():
      if key.startswith(("question", "prompt", "answer")):
        texts.append(f"user\n{value} assistant")
  return texts


def load_tiny(folder, config):
  path = tiny_checkpoint.write_checkpoint(
    folder,
    config_file=importlib.import_module(f"filax.configs.{config}"),
    texts=spoken_texts(),
    vocabulary=440,
  )
  return filax.load(path)


@pytest.fixture(scope="package")
def vcf(tmp_path_factory):
  """Clips of 4 frames, 4 tokens a frame."""
  return load_tiny(tmp_path_factory.mktemp("vcf"), "vcf_toy")


@pytest.fixture(scope="package")
def fila(tmp_path_factory):
  """Groups of 3 frames, K-Means, a newline after the video."""
  return load_tiny(tmp_path_factory.mktemp("fila"), "fila_toy")
