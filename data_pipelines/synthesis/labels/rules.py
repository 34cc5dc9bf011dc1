# SPDX-License-Identifier: Apache-2.0
"""Labels by rules: the core of the first sentence of an annotation.

Openers such as "The video shows" are removed: they say where in a video a text stands.
"""

from collections.abc import Sequence
import re

MOST_EVENT_WORDS = 12
MOST_PLACE_WORDS = 8
LEAST_CHARACTERS = 2

_OPENER = re.compile(
  r"(?:(?:in|throughout|at the (?:beginning|start|end) of) (?:the|this) (?:video|clip|scene)s?,? *"
  r"|(?:the|this) (?:video|clip|scene|segment|footage|background|setting) "
  r"(?:then |finally |first )?"
  r"(?:(?:begins|starts|opens|continues|concludes|closes|ends|transitions|shifts|cuts)"
  r" (?:with|by|to|on|at)|shows|depicts|features|captures|displays|is|consists of|presents"
  r"|takes place in|is set in|includes)"
  r"(?: (?:showing|set in))? +"
  r"|the main (?:subject|object|character)s? (?:(?:in|of) (?:the|this) (?:video|scene|clip) )?"
  r"(?:is|are|include|includes) +"
  r"|(?:first|next|then|finally|after that|afterwards|meanwhile|lastly),? +)",
  re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)\"'])[.!?](?:\s|$)|\n")
_EVENT_CUT = re.compile(r", while\b|; | as (?=[a-z])| with (?=[a-z])|, with\b| and then ")
_PLACE_CUT = re.compile(
  r"; | with (?=[a-z])|, with\b|, where\b|, featuring\b| featuring |, which\b"
)
_EGO_MARK = re.compile(r"#(?:unsure|summary|C|O)\b *", re.IGNORECASE)
_EGO_WEARER = re.compile(r"\bC\b(?!['.]?\w)")
_EGO_OTHER = re.compile(
  r"\b(?:[Aa] )?(?:(?:wo)?man|person|lady|boy|girl) [A-Z]\b|\b[ABD-Z]\b(?= (?:[a-z]+s|is)\b)"
)


def rule_labels(texts: Sequence[str], kind: str) -> list[tuple[str, ...] | None]:
  """A label of each text; None where nothing is left.

  kind: "event" or "place".
  """
  labels: list[tuple[str, ...] | None] = []
  for text in texts:
    label = event_label(text) if kind == "event" else place_label(text)
    labels.append((label,) if label else None)
  return labels


def event_label(text: str) -> str:
  """What happens, in at most 12 words; "" if nothing is left."""
  if "#" in text:
    text = _ego_text(text)
  return _label(text, _EVENT_CUT, MOST_EVENT_WORDS)


def place_label(text: str) -> str:
  """Where it happens, in at most 8 words.

  "" if nothing is left.
  """
  return _label(text, _PLACE_CUT, MOST_PLACE_WORDS)


def _ego_text(text: str) -> str:
  """A narration of Ego4D without its marks.

  "#C C chops" is "the camera wearer chops".
  """
  is_other = "#O" in text
  text = _EGO_MARK.sub("", text)
  if is_other:
    text = _EGO_OTHER.sub("another person", text, count=1)
  return _EGO_WEARER.sub("the camera wearer", text)


def _label(text: str, cut: re.Pattern, most_words: int) -> str:
  text = " ".join(text.split())
  if text[:1].islower():
    text = _whole_sentence(text)
  sentence = _SENTENCE_END.split(text, maxsplit=1)[0]
  before = None
  while before != sentence:  # "In the video, the scene shows".
    before = sentence
    sentence = _OPENER.sub("", sentence, count=1) if _OPENER.match(sentence) else sentence
  sentence = cut.split(sentence, maxsplit=1)[0]
  words = sentence.split()[:most_words]
  label = " ".join(words).strip(" ,.;:-\"'")
  if len(label) < LEAST_CHARACTERS:
    return ""
  return _lower_first(label)


def _whole_sentence(text: str) -> str:
  """A text without a cut-off first sentence, if more follow."""
  parts = _SENTENCE_END.split(text, maxsplit=1)
  is_fragment = len(parts) > 1 and parts[1].strip()[:1].isupper()
  return parts[1].strip() if is_fragment else text


def _lower_first(label: str) -> str:
  """A label in lower case, unless it begins with a name."""
  first, _, second = label.partition(" ")
  is_name = not first[1:].islower() and len(first) > 1
  is_name |= second[:1].isupper() and first.lower() not in ("a", "an", "the")
  return label if is_name else label[0].lower() + label[1:]
