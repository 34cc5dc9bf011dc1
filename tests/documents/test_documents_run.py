# SPDX-License-Identifier: Apache-2.0
"""Every command and block of code of the documents runs, made small, in the order of its page."""

import pytest
import torch  # noqa: F401 - The world has folders of transformers.

from document_steps import LONG, documents_with_steps, steps_to_run
from documents_process import DocumentsProcess

pytestmark = pytest.mark.slow

SHORT = [document for document in documents_with_steps() if document not in LONG]


@pytest.fixture(scope="module")
def process(tmp_path_factory):
  with DocumentsProcess(tmp_path_factory.mktemp("documents")) as process:
    yield process


@pytest.mark.parametrize("document", SHORT)
def test_the_commands_of_a_document_run(document, process):
  answer = process.run(document, steps_to_run(document))
  assert not answer["failed"], f"{document}: {answer['failed']}\n\n{answer['output']}"
