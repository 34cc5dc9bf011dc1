# SPDX-License-Identifier: Apache-2.0
"""All commands on the list of those that cannot run, and all replacements, are needed."""

from collections import Counter
import re

from cannot_run import CANNOT_RUN, reason_not_to_run
from document_blocks import DOCUMENTS
from document_steps import documents_with_steps, made_small, source_steps
import pytest
from stand_ins import AFTER, EVERYWHERE, GIVEN, IN_DOCUMENTS, WRITTEN

# Lines of documents that do not run. A new one needs a reason, and a reviewer who agrees.
LISTED_LINES = 34
BEGINNINGS = [beginning for lines in CANNOT_RUN.values() for beginning in lines]
LINES = [
  text for document in DOCUMENTS for kind, text in source_steps(str(document)) if kind == "bash"
]
RUN_BY_FILAX = ("watch", "push", "train", "chat")  # The verbs that the list may name.


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_command_of_the_list_stands_in_a_document(beginning):
  assert any(line.startswith(beginning) for line in LINES), (
    f"No document has {beginning!r} any more"
  )


def test_the_list_does_not_grow():
  listed = [line for line in LINES if reason_not_to_run(line)]
  assert len(listed) == LISTED_LINES, "\n".join(listed)


def test_hardly_any_command_of_filax_is_on_the_list():
  ours = [beginning for beginning in BEGINNINGS if beginning.startswith("filax ")]
  assert Counter(line.split()[1] for line in ours) == Counter(RUN_BY_FILAX)


@pytest.mark.parametrize("row", EVERYWHERE, ids=[pattern for pattern, _ in EVERYWHERE])
def test_a_replacement_is_needed(row):
  assert any(re.search(row[0], line) for line in LINES)


@pytest.mark.parametrize("document", IN_DOCUMENTS)
def test_replacements_of_a_document_are_needed(document):
  text = "\n".join(text for _, text in source_steps(document))
  unused = [pattern for pattern, _ in IN_DOCUMENTS[document] if not re.search(pattern, text, re.M)]
  assert not unused, f"{document} has nothing that {unused} would replace"


def test_a_replacement_keeps_the_verb_and_the_options():
  for document in documents_with_steps():
    for kind, text in source_steps(document):
      if kind == "bash":
        small = made_small(document, text)
        words = 2 if text.startswith("filax ") else 1
        assert small.split()[:words] == text.split()[:words], small
        gone = set(re.findall(r"--[\w.-]+", text)) - set(re.findall(r"--[\w.-]+", small))
        assert not gone, f"{document}: {text}\nlost {gone}"


def test_what_a_page_leaves_to_its_reader_is_given_to_documents_that_run():
  assert {*GIVEN, *AFTER, *WRITTEN, *IN_DOCUMENTS} <= set(documents_with_steps())
