# SPDX-License-Identifier: Apache-2.0
"""Commands and blocks of documents run, in the order of their page."""

from document_steps import LONG, documents_with_steps, steps_to_run
from documents_process import DocumentsProcess
import pytest
import torch  # noqa: F401 - The world has folders of transformers.


@pytest.fixture(scope="module")
def process(tmp_path_factory):
  with DocumentsProcess(tmp_path_factory.mktemp("documents")) as process:
    yield process


def marked(document):
  """The document with its lane: those of LONG take minutes even when they are made small."""
  mark = pytest.mark.long if document in LONG else pytest.mark.slow
  return pytest.param(document, marks=mark, id=document)


@pytest.mark.parametrize("document", map(marked, documents_with_steps()))
def test_a_document_runs(document, process):
  answer = process.run(document, steps_to_run(document))
  assert not answer["failed"], f"{document}: {answer['failed']}\n\n{answer['output']}"
