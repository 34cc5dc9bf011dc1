# SPDX-License-Identifier: Apache-2.0
"""The option that a generated text chooses, by its letter or by its words.

Every letter is read in the same forms and in both cases; "a" is an article where a word follows
that could be its noun. What is denied ("not B", "option B is wrong") does not count, what comes
after a correction ("A... no, B") replaces what was before it. Then, in turn:

  1. the last plain statement: "the answer is B", "I choose B", "B is correct", \\boxed{B}
  2. a letter that is all of the text, of a sentence or of its last line
  3. a letter that the text or its lines begin with: "B. a kite", "(B) because"
  4. all other letters, if they are the same one: "it must be in B"
  5. without any letter, the words of just one option

Two letters side by side ("A and B") choose nothing. A letter counts more than the words behind it,
as in the published rules of the benchmarks.
"""

from collections.abc import Callable, Sequence
import dataclasses
import itertools
import re

from filax.evals.metrics import letter_patterns as patterns
from filax.evals.metrics.options import LETTERS, same_words
from filax.evals.metrics.plain_text import normalised, plain

REACH = 160  # Characters before a letter in which words decide what it is.
END = 2000  # Characters that are read of either end of a very long answer.


@dataclasses.dataclass(frozen=True)
class Mention:
  """Letters that stand together in a text, or the words of one option."""

  letters: tuple[str, ...]
  start: int
  stop: int
  joined: bool = False  # Its letters are joined by a word such as "and", not by commas alone.


def chosen(text: str, options: Sequence[str]) -> str | None:
  """The letter of the option that `text` chooses; None for no option, or for more than one."""
  text = plain(text).strip()
  _, thought, answer = text.rpartition("</think>")
  text = answer.strip() if thought else text
  if len(text) > 2 * END:
    text = f"{text[:END]}\n{text[-END:]}"
  text = patterns.STYLED.sub(r"\g<text>", patterns.STRUCK.sub("", text)).strip()
  text = patterns.HYPHEN.sub(r"\g<noun> ", text)
  known = tuple(LETTERS[: len(options)])
  same = same_words(text, options)
  if same is not None:
    return same
  words = _word_mentions(text, options)
  corrections = _corrections(text, words)
  hidden = [(mention.start, mention.stop) for mention in words]
  hidden += [span for span in corrections if re.search(patterns.FROM, text[slice(*span)])]
  letters = _groups(text, _letters(text, hidden, words))
  decided = _decide(text, letters, corrections, _strongest)
  if decided is None:
    decided = _decide(text, words, corrections, _stated_words)
  return decided if decided in known else None


def _word_mentions(text: str, options: Sequence[str]) -> list[Mention]:
  """Where the words of options stand, longer options first; those said twice name nothing."""
  texts = [normalised(plain(option)) for option in options]
  order = sorted(range(len(options)), key=lambda i: -len(texts[i]))
  mentions: list[Mention] = []
  for i in order:
    if texts.count(texts[i]) > 1 or not texts[i] or texts[i].upper() in LETTERS:
      continue
    for match in patterns.of_words(texts[i].split()).finditer(text):
      inside = any(m.start <= match.start() and match.end() <= m.stop for m in mentions)
      if not inside:
        mentions.append(Mention((LETTERS[i],), match.start(), match.end()))
  return sorted(mentions, key=lambda mention: mention.start)


def _corrections(text: str, words: Sequence[Mention]) -> list[tuple[int, int]]:
  """Where the text takes back what it said, outside of the options' own words."""
  spans = []
  for match in patterns.CORRECTION.finditer(text):
    if not any(m.start < match.end() and match.start() < m.stop for m in words):
      spans.append(match.span())
  return spans


def _letters(text: str, hidden, words: Sequence[Mention]) -> list[Mention]:
  """Every single letter that can stand for an option."""
  mentions = []
  for match in patterns.LETTER.finditer(text):
    start, stop = match.span()
    if any(first <= start < last for first, last in hidden):
      continue
    if patterns.NAME_BEFORE.search(_before(text, start)):
      continue
    letter = match[0].upper()
    if _is_letter(text, match, [m.start for m in words if m.letters == (letter,)]):
      mentions.append(Mention((letter,), start, stop))
  return mentions


def _is_letter(text: str, match: re.Match, own_words: Sequence[int]) -> bool:
  """Whether a single letter is no article, nor another short word.

  `own_words`: where the words of its option begin.
  """
  start, stop = match.span()
  if match[0] in LETTERS and match[0] != "A":
    return True
  next_word = patterns.NEXT_WORD.match(text, stop)
  if next_word is None or next_word["colon"] or patterns.VERB_AFTER.match(text, stop):
    return True
  word = next_word["word"]
  same_case = len(word) == 1 and word.isupper() == match[0].isupper()
  if word.lower() in patterns.FOLLOWERS or (same_case and patterns.NEXT_LETTER.match(text, stop)):
    return True
  if patterns.OPTION_BEFORE.search(_before(text, start)):
    return True
  if match[0].lower() == "a":
    return False
  return next_word.start("word") in own_words or not text[:start].strip()


def _before(text: str, start: int) -> str:
  """The last words before a place; a bound, so that long answers take no long time."""
  return text[max(0, start - REACH) : start]


def _groups(text: str, mentions: Sequence[Mention]) -> list[Mention]:
  """Mentions that are joined ("A, B", "A and B", "A/B") as one."""
  groups: list[Mention] = []
  for mention in mentions:
    between = text[groups[-1].stop : mention.start] if groups else "."
    joint = patterns.JOINT.fullmatch(between)
    if joint is None:
      groups.append(mention)
      continue
    last = groups.pop()
    joined = last.joined or joint["word"] is not None
    groups.append(Mention(last.letters + mention.letters, last.start, mention.stop, joined))
  return groups


def _decide(text: str, mentions: Sequence[Mention], corrections, strongest: Callable) -> str | None:
  """The letter that is chosen, "" for a contradiction, None if nothing is chosen."""
  affirmed, denied = [], []
  for mention in mentions:
    yes, no = _split(text, mention)
    affirmed += yes
    denied += no
  affirmed = [mention for mention in affirmed if not _taken_back(mention, denied)]
  bounds = [0, *(start for start, _ in corrections), len(text) + 1]
  for first, last in reversed(list(itertools.pairwise(bounds))):
    part = [mention for mention in affirmed if first <= mention.start < last]
    if part:
      return strongest(text, part)
  return None


def _split(text: str, mention: Mention) -> tuple[list[Mention], list[Mention]]:
  """(affirmed, denied) parts of letters that stand together."""
  before = patterns.DENIED_BEFORE.search(_before(text, mention.start))
  after = patterns.DENIED_AFTER.match(text, mention.stop)
  if before is None and after is None:
    return [mention], []
  words = (before or after)[0]
  if mention.joined or len(mention.letters) == 1 or patterns.ALL_DENIED.search(words):
    return [], [mention]
  # With commas alone, "not A, B" denies the first of them and "A, B is wrong" the last.
  cut = 1 if before else len(mention.letters) - 1
  middle = mention.stop if before else mention.start
  first = dataclasses.replace(mention, letters=mention.letters[:cut], stop=middle)
  rest = dataclasses.replace(mention, letters=mention.letters[cut:], start=middle)
  return ([rest], [first]) if before else ([first], [rest])


def _taken_back(mention: Mention, denied: Sequence[Mention]) -> bool:
  """Whether a later place denies one of the letters."""
  return any(
    set(mention.letters) & set(other.letters) for other in denied if other.start > mention.start
  )


def _stated_words(text: str, mentions: Sequence[Mention]) -> str:
  """The option whose words are stated as the answer, or the only one; "" if there are two."""
  explicit = [mention for mention in mentions if _is_statement(text, mention)]
  return _only(explicit[-1:] or mentions)


def _strongest(text: str, mentions: Sequence[Mention]) -> str:
  """The letter of the strongest form among affirmed mentions; "" if there are two."""
  explicit = [mention for mention in mentions if _is_statement(text, mention)]
  if explicit:
    return _only(explicit[-1:])
  alone = [mention for mention in mentions if _is_alone(text, mention)]
  first = [m for m in mentions if _begins_line(text, m) or patterns.LISTED.match(text, m.stop)]
  if alone and _is_last_line(text, alone[-1]) and not _is_line(text, mentions[0]):
    return _only(alone[-1:])
  leading = [mention for mention in first if _begins_text(text, mention)]
  for strongest in (alone + leading if alone else [], first or leading, mentions):
    if strongest:
      break
  return _only(strongest)


def _only(mentions: Sequence[Mention]) -> str:
  letters = {letter for mention in mentions for letter in mention.letters}
  return letters.pop() if len(letters) == 1 else ""


def _is_statement(text: str, mention: Mention) -> bool:
  before = patterns.STATED_BEFORE.search(_before(text, mention.start))
  return before is not None or patterns.STATED_AFTER.match(text, mention.stop) is not None


def _is_alone(text: str, mention: Mention) -> bool:
  """Whether the letter is a whole sentence or clause."""
  if patterns.MARK.match(text, mention.stop) and _begins_line(text, mention):
    return False
  before = patterns.CLAUSE_START.search(text[: mention.start])
  return before is not None and patterns.CLAUSE_STOP.match(text, mention.stop) is not None


def _is_line(text: str, mention: Mention) -> bool:
  """Whether the letter is all of its line."""
  line = text[: mention.start].rpartition("\n")[2] + text[mention.stop :].partition("\n")[0]
  return not line.strip(patterns.DECORATION)


def _is_last_line(text: str, mention: Mention) -> bool:
  """Whether the letter is all of the last of several lines."""
  several = "\n" in text[: mention.start]
  last = not text[mention.stop :].strip(patterns.DECORATION)
  return several and last and _is_line(text, mention)


def _begins_line(text: str, mention: Mention) -> bool:
  line = text[: mention.start].rpartition("\n")[2]
  return patterns.PREFIX.fullmatch(line) is not None


def _begins_text(text: str, mention: Mention) -> bool:
  return patterns.PREFIX.fullmatch(text[: mention.start]) is not None
