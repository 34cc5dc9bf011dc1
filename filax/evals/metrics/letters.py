# SPDX-License-Identifier: Apache-2.0
"""Finds the option that a generated text chooses, by letter or words.

Every letter is read in the same forms and in both cases; "a" is an article if a possible noun
follows. Denied letters ("not B", "option B is wrong") do not count, and the text after a correction
("A... no, B") replaces the text before it. The rules then apply in this order:

  1. the last plain statement: "the answer is B", "I choose B", "B is correct", \\boxed{B}
  2. a letter that makes up the whole text, a sentence or the last line
  3. a letter at the beginning of the text or of a line: "B. a kite", "(B) because"
  4. all other letters, if they are the same: "it must be in B"
  5. without any letter, the words of exactly one option

Two letters side by side ("A and B") choose nothing. A letter takes precedence over the words after
it, as in the published rules of the benchmarks.
"""

from collections.abc import Callable, Sequence
import dataclasses
import re

from filax.evals.metrics import letter_patterns as patterns
from filax.evals.metrics.options import LETTERS, option_of_words
from filax.evals.metrics.plain_text import normalised, plain

REACH = 160  # Characters before a letter that are searched for words about it.
USUAL = 8  # Options of a question; only with more of them, I and J are letters.
END = 2000  # Characters read at each end of a very long answer.


@dataclasses.dataclass(frozen=True)
class Mention:
  """Adjacent letters ("A and B"), or the words of one option."""

  text: str
  letters: tuple[str, ...]
  start: int
  stop: int
  joined: bool = False  # Its letters are joined by a word such as "and", not by commas alone.

  def preceded_by(self, pattern: re.Pattern) -> re.Match | None:
    """A match of a pattern that ends at the mention."""
    return pattern.search(_text_before(self.text, self.start))

  def followed_by(self, pattern: re.Pattern) -> re.Match | None:
    """A match of a pattern that begins behind the mention."""
    return pattern.match(self.text, self.stop)

  @property
  def line_before(self) -> str:
    """The part of the mention's line before it."""
    _, _, line = self.text[: self.start].rpartition("\n")
    return line

  @property
  def line_after(self) -> str:
    """The part of the mention's line behind it."""
    line, _, _ = self.text[self.stop :].partition("\n")
    return line


Span = tuple[int, int]  # start, stop


def chosen(text: str, options: Sequence[str]) -> str | None:
  """The letter of the option that `text` chooses.

  It is None if the text chooses no option, or several.
  """
  text = _answer_part(text)
  whole_text = option_of_words(text, options)
  if whole_text is not None:
    return whole_text
  words = _word_mentions(text, options)
  corrections = _corrections(text, words)
  hidden = _hidden_spans(text, words, corrections)
  mentions = _letter_mentions(text, hidden, words)
  if len(options) <= USUAL:
    mentions = [mention for mention in mentions if mention.letters[0] in LETTERS[:USUAL]]
  letters = _joined_mentions(mentions)
  choice = _decide(letters, corrections, _strongest_letter)
  if choice is None:
    choice = _decide(words, corrections, _stated_option)
  return choice if choice in tuple(LETTERS[: len(options)]) else None


def _answer_part(text: str) -> str:
  """The answer without reasoning, markup, struck words and a long middle."""
  text = plain(text).strip()
  _, thought, answer = text.rpartition("</think>")
  if thought:
    text = answer.strip()
  if len(text) > 2 * END:
    text = f"{text[:END]}\n{text[-END:]}"
  text = patterns.STRUCK.sub("", text)
  text = patterns.STYLED.sub(r"\g<text>", text).strip()
  return patterns.HYPHEN.sub(r"\g<noun> ", text)


def _word_mentions(text: str, options: Sequence[str]) -> list[Mention]:
  """Mentions of options by their words, in the order of the text.

  Longer options are matched first; options with equal words are skipped.
  """
  texts = [normalised(plain(option)) for option in options]
  order = sorted(range(len(options)), key=lambda number: -len(texts[number]))
  mentions: list[Mention] = []
  for number in order:
    words = texts[number]
    if texts.count(words) > 1 or not words or words.upper() in LETTERS:
      continue
    letters = (LETTERS[number],)
    for match in patterns.of_words(words.split()).finditer(text):
      start, stop = match.span()
      if not any(mention.start <= start and stop <= mention.stop for mention in mentions):
        mentions.append(Mention(text, letters, start, stop))
  return sorted(mentions, key=lambda mention: mention.start)


def _corrections(text: str, words: Sequence[Mention]) -> list[Span]:
  """Spans of corrections ("no,", "wait") outside the options' words."""
  spans = []
  for match in patterns.CORRECTION.finditer(text):
    start, stop = match.span()
    if not any(mention.start < stop and start < mention.stop for mention in words):
      spans.append((start, stop))
  return spans


def _hidden_spans(text: str, words: Sequence[Mention], corrections: Sequence[Span]) -> list[Span]:
  """Spans whose letters do not count: options' words, and "from A to"."""
  spans = []
  for mention in words:
    spans.append((mention.start, mention.stop))
  for start, stop in corrections:
    if patterns.FROM.search(text[start:stop]):
      spans.append((start, stop))
  return spans


def _letter_mentions(text: str, hidden: Sequence[Span], words: Sequence[Mention]) -> list[Mention]:
  """Every separate letter that can refer to an option."""
  mentions = []
  for match in patterns.LETTER.finditer(text):
    start, stop = match.span()
    if any(first <= start < last for first, last in hidden):
      continue
    letter = Mention(text, (match[0].upper(),), start, stop)
    if letter.preceded_by(patterns.NAME_BEFORE):
      continue
    if _is_letter(letter, words):
      mentions.append(letter)
  return mentions


def _is_letter(letter: Mention, words: Sequence[Mention]) -> bool:
  """Whether a separate letter is not an article or another short word."""
  character = letter.text[letter.start : letter.stop]
  if character in LETTERS and character not in "AI":
    return True
  next_word = letter.followed_by(patterns.NEXT_WORD)
  if next_word is None or next_word["colon"] or letter.followed_by(patterns.VERB_AFTER):
    return True
  if character in "Ii":
    before = letter.preceded_by(patterns.OPTION_BEFORE)
    return before is not None or letter.followed_by(patterns.STATED_AFTER) is not None
  word = next_word["word"]
  if word.lower() in patterns.FOLLOWERS:
    return True
  same_case = len(word) == 1 and word.isupper() == character.isupper()
  if same_case and letter.followed_by(patterns.NEXT_LETTER):
    return True
  if letter.preceded_by(patterns.OPTION_BEFORE):
    return True
  if character.lower() == "a":
    return False
  word_start = next_word.start("word")
  for option in words:
    if option.letters == letter.letters and option.start == word_start:
      return True
  return not letter.text[: letter.start].strip()


def _text_before(text: str, start: int) -> str:
  """The last REACH characters before a position, for speed."""
  return text[max(0, start - REACH) : start]


def _joined_mentions(mentions: Sequence[Mention]) -> list[Mention]:
  """Merges joined mentions ("A, B", "A and B", "A/B")."""
  groups: list[Mention] = []
  for mention in mentions:
    joint = _joint(groups[-1], mention) if groups else None
    if joint is None:
      groups.append(mention)
      continue
    last = groups.pop()
    group = dataclasses.replace(
      last,
      letters=last.letters + mention.letters,
      stop=mention.stop,
      joined=last.joined or joint["word"] is not None,
    )
    groups.append(group)
  return groups


def _joint(first: Mention, second: Mention) -> re.Match | None:
  """The words or marks that join two mentions."""
  return patterns.JOINT.fullmatch(first.text[first.stop : second.start])


def _decide(
  mentions: Sequence[Mention],
  corrections: Sequence[Span],
  strongest: Callable[[Sequence[Mention]], str],
) -> str | None:
  """The chosen letter, "" for a contradiction, None for no choice."""
  affirmed: list[Mention] = []
  denied: list[Mention] = []
  for mention in mentions:
    affirmed_part, denied_part = _split_mention(mention)
    affirmed += affirmed_part
    denied += denied_part
  valid = [mention for mention in affirmed if not _is_taken_back(mention, denied)]
  starts = [0, *(start for start, _ in corrections)]
  for first in reversed(starts):
    after_correction = [mention for mention in valid if mention.start >= first]
    if after_correction:
      return strongest(after_correction)
  return None


def _split_mention(mention: Mention) -> tuple[list[Mention], list[Mention]]:
  """(affirmed, denied) parts of adjacent letters."""
  before = mention.preceded_by(patterns.DENIED_BEFORE)
  after = mention.followed_by(patterns.DENIED_AFTER)
  denial = before or after
  if denial is None:
    return [mention], []
  if mention.joined or len(mention.letters) == 1 or patterns.ALL_DENIED.search(denial[0]):
    return [], [mention]
  # With commas alone, "not A, B" denies the first of them and "A, B is wrong" the last.
  if before:
    first, rest = _cut_mention(mention, 1, mention.stop)
    return [rest], [first]
  first, rest = _cut_mention(mention, len(mention.letters) - 1, mention.start)
  return [first], [rest]


def _cut_mention(mention: Mention, count: int, middle: int) -> tuple[Mention, Mention]:
  """Splits a mention at `middle`: the first `count` letters, and the rest."""
  first = dataclasses.replace(mention, letters=mention.letters[:count], stop=middle)
  rest = dataclasses.replace(mention, letters=mention.letters[count:], start=middle)
  return first, rest


def _is_taken_back(mention: Mention, denied: Sequence[Mention]) -> bool:
  """Whether a later mention denies one of the letters."""
  for other in denied:
    if other.start > mention.start and set(other.letters) & set(mention.letters):
      return True
  return False


def _stated_option(mentions: Sequence[Mention]) -> str:
  """The option stated as the answer, or the only mentioned option.

  It is "" if there are several.
  """
  stated = list(filter(_is_statement, mentions))
  return _only_letter(stated[-1:] or mentions)


def _strongest_letter(mentions: Sequence[Mention]) -> str:
  """The letter of the strongest form; "" if there are several."""
  stated = list(filter(_is_statement, mentions))
  if stated:
    return _only_letter(stated[-1:])
  alone = list(filter(_is_alone, mentions))
  if alone and _is_last_line(alone[-1]) and not _is_line(mentions[0]):
    return _only_letter(alone[-1:])
  first = list(filter(_is_first, mentions))
  if alone:
    leading = list(filter(_begins_text, first))
    return _only_letter(alone + leading)
  return _only_letter(first or mentions)


def _only_letter(mentions: Sequence[Mention]) -> str:
  """The letter of all mentions; "" if there are two."""
  letters: set[str] = set()
  for mention in mentions:
    letters.update(mention.letters)
  return letters.pop() if len(letters) == 1 else ""


def _is_statement(mention: Mention) -> bool:
  """Whether the text states the mention as its answer."""
  if mention.preceded_by(patterns.STATED_BEFORE):
    return True
  return mention.followed_by(patterns.STATED_AFTER) is not None


def _is_alone(mention: Mention) -> bool:
  """Whether the letter is a whole sentence or clause."""
  if mention.followed_by(patterns.MARK) and _begins_line(mention):
    return False
  before = patterns.CLAUSE_START.search(mention.text[: mention.start])
  return before is not None and mention.followed_by(patterns.CLAUSE_STOP) is not None


def _is_first(mention: Mention) -> bool:
  """Whether the letter begins a line or an item of a list."""
  return _begins_line(mention) or mention.followed_by(patterns.LISTED) is not None


def _is_line(mention: Mention) -> bool:
  """Whether the letter is all of its line."""
  return not (mention.line_before + mention.line_after).strip(patterns.DECORATION)


def _is_last_line(mention: Mention) -> bool:
  """Whether the letter is all of the last of several lines."""
  if "\n" not in mention.text[: mention.start]:
    return False
  text_after = mention.text[mention.stop :]
  return not text_after.strip(patterns.DECORATION) and _is_line(mention)


def _begins_line(mention: Mention) -> bool:
  return patterns.PREFIX.fullmatch(mention.line_before) is not None


def _begins_text(mention: Mention) -> bool:
  return patterns.PREFIX.fullmatch(mention.text[: mention.start]) is not None
