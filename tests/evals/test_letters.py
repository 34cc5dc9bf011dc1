# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF001  (characters that look alike are what is read here)
"""Which option an answer chooses: forms times letters times cases times punctuation."""

import itertools
import time

import pytest

from filax.evals.metrics.letters import chosen
from filax.evals.metrics.options import named_option, unlettered, without_letter

OPTIONS = ("a red circle", "a blue square", "nothing at all", "a ring")
TEXTS = tuple(f"text {letter} here" for letter in "abcde")

# The rows on which the published extractors differ, and what is right.
CONFORMANCE = [
  ("A", "A"),
  ("A.", "A"),
  ("b", "B"),
  ("(B) a dog", "B"),
  ("B) a dog", "B"),
  ("C: a dog", "C"),
  ("The answer is C.", "C"),
  ("Answer: B", "B"),
  ("A cat is in B", "B"),
  ("I think a dog", None),
  ("BANANA", None),
  ("Option (C)", "C"),
  ("E", "E"),
  ("A, B", None),
  ("None of these", None),
  ("the option is text d here now ok", "D"),
  ("The correct option is (E).", "E"),
  ("**C**", "C"),
  ("", None),
]

# "{x}" is any letter in any case, "{y}" another one. All of these choose x.
FORMS = """
{x}
{x}.
{x})
({x})
[{x}]
{{{x}}}
<{x}>
"{x}"
'{x}'
`{x}`
**{x}**
*{x}*
__{x}__
**{x}.**
$\\boxed{{{x}}}$
# {x}
- {x}
> {x}
{x}:
{x},
{x};
{x}!
{x}\\n
\\n{x}
{x}\\nIt is so.
{x}. It is so.
{x}, because it is so
{x} because it is so
{x} since it is so
{x} - it is so
{x}: it is so
({x}) it is so
{x}) it is so
Answer: {x}
answer {x}
ANSWER: {x}
Answer - {x}
Answer: ({x})
Answer: {x}. It is so.
**Answer:** {x}
**Answer: {x}**
Answer:\\n\\n**{x}**
Final answer: {x}
The answer is {x}
The answer is {x}.
The answer is: {x}
the answer is ({x}).
The answer is "{x}".
The answer is {x} because it is so
The answer is {x}, it is so
The answer is option {x}
The correct answer is option ({x}).
The best option is {x}.
The correct choice would be {x}
My answer would be {x}.
Therefore, the answer is {x}.
So {x}
Option {x}
option {x}.
Option ({x})
Option {x} is correct
option {x} it is
Choice {x}
The letter {x}
I choose {x}
I choose {x}.
I pick option {x}
I would go with {x}.
I think it is {x}.
I'd say {x}
It is {x}.
It's {x}
It must be {x}.
Yes, {x}.
Sure! The answer is {x}.
Based on the video, the answer is {x}
{x} is correct
{x} is the right answer.
{x} is the answer
{x} is right, not {y}
{x} best describes the video
{x}, not {y}
{x}, as {y} is wrong
{x} rather than {y}
{x} ({y} is wrong)
not {y} but {x}
Not {y}. {x}.
It is not {y}. It is {x}.
I do not think it is {y}. {x}.
{y} is wrong, so {x}
{y} is incorrect. {x} is correct.
Option {y} is wrong; the answer is {x}
option {y} isn't it. option {x} is right
{y} can't be right, so it must be {x}
{y} does not fit. Answer: {x}
The wrong answer is {y}. Answer: {x}
instead of {y}, {x}
{y}... no, {x}
{y}. No, {x}.
{y}, no wait, {x}
{y}. Wait, it is {x}.
{y}, sorry, {x}
{y}, I mean {x}
The answer is {y}. Actually, it is {x}.
The answer is {y}. Correction: {x}
Answer: {y}\\nAnswer: {x}
I change my answer from {y} to {x}
Option {y} shows a dog. The answer is {x}.
{x}\\n\\nOption {y} shows a dog
Between {y} and {x}, I choose {x}
{y}. On reflection, {x}.
{y} is plausible but {x} is better
None of {y}; {x}
~~{y}~~ {x}
<b>{x}</b>
Option-{x}
I prefer {x} to {y}
I'd pick {x} over {y}
{x} is the most likely
{x} makes sense
{x} probably
{x} 100%
<think>{y} or {x}?</think>{x}
<answer>{x}</answer>
{{"answer": "{x}"}}
答案是{x}
答案：{x}。
选{x}
答えは{x}です
La respuesta es {x}
""".strip("\n").split("\n")

# None of these chooses anything.
UNDECIDED = """
{x} and {y}
{x} or {y}
{x}, {y}
{x},{y}
{x}; {y}
{x};{y}
{x}/{y}
{x} & {y}
{x}\\n{y}
{x}. {y}.
({x}) and ({y})
({x}), ({y})
both {x} and {y}
Both ({x}) and ({y}).
either {x} or {y}
option {x} and option {y}
The answer is {x} or {y}
The answer is {x} and {y}.
Answer: {x}, {y}
I choose {x} or {y}
not only {x} but also {y}
not {x}
Not option {x}.
not {x} or {y}
neither {x} nor {y}
neither {x} nor {y}.
The answer is not {x}.
It isn't {x}
{x} is wrong
option {x} is wrong
{x} is not correct.
{x} is incorrect. {y} is incorrect.
{x}. red\\n{y}. blue
({x}) red ({y}) blue
{x}. red {y}. blue
{x} (or {y})
{x} through {y}
{x} vs {y}
""".strip("\n").split("\n")


def spoken(form: str, x: str, y: str) -> str:
  return form.format(x=x, y=y).replace("\\n", "\n")


def pairs():
  """Two different letters, in upper and lower case."""
  for x, y in itertools.permutations("ABCD", 2):
    yield x, y
    yield x.lower(), y.lower()


@pytest.mark.parametrize(("text", "want"), CONFORMANCE)
def test_the_rows_on_which_extractors_differ(text, want):
  assert chosen(text, TEXTS) == want


@pytest.mark.parametrize("form", FORMS)
def test_every_letter_is_read_in_every_form(form):
  for x, y in pairs():
    assert chosen(spoken(form, x, y), OPTIONS) == x.upper(), spoken(form, x, y)


@pytest.mark.parametrize("form", UNDECIDED)
def test_two_letters_or_none(form):
  for x, y in pairs():
    assert chosen(spoken(form, x, y), OPTIONS) is None, spoken(form, x, y)


@pytest.mark.parametrize("form", [f for f in FORMS if "{y}" not in f])
def test_a_letter_that_is_no_option(form):
  for letter in "EHeh":
    assert chosen(spoken(form, letter, "A"), OPTIONS) is None, letter


WIDE = {
  "full width": 0xFF21,
  "circled": 0x24B6,
  "bracketed": 0x1F110,
  "bold": 0x1D400,
  "white on black": 0x1F170,
  "white in a circle": 0x1F150,
  "squared": 0x1F130,
  "small full width": 0xFF41,
  "small circled": 0x24D0,
  "small bracketed": 0x249C,
}


@pytest.mark.parametrize("first", WIDE.values(), ids=WIDE.keys())
def test_letters_of_unicode(first):
  for i, letter in enumerate("ABCD"):
    sign = chr(first + i)
    for form in ("{}", "{}。", "Answer: {}", "The answer is {}.", "{}\ufe0f", "\u200b{}"):
      assert chosen(form.format(sign), OPTIONS) == letter, form


@pytest.mark.parametrize(
  "form",
  [
    "（{}）",
    "【{}】",
    "「{}」",
    "『{}』",
    "“{}”",
    "‘{}’",
    "„{}“",
    "«{}»",
    "‹{}›",
    "〔{}〕",
    "{}。",
    "{}．",
    "{}，",
    "{}、",
    "{}：",
    "{}；",
    "{}！",
    "{}？",
    "{}…",
    "{}．a thing",
    "{}：a thing",
    "{}、because",
    "{}）a thing",
    "{} — because",
    "{}—because",
    "{} – it is so",
    "• {}",
    "{}\u00a0because",
    "{}\u3000because",
    "{}\u200b",
    "\ufeff{}",
    "答案（{}）",
    "Answer：{}",
  ],
)
def test_punctuation_of_unicode(form):
  for letter in "ABCDabcd":
    assert chosen(form.format(letter), OPTIONS) == letter.upper(), form.format(letter)


@pytest.mark.parametrize(
  "text",
  [
    "A dog",
    "a dog",
    "A dog is there.",
    "a man in a hat",
    "I think a dog",
    "It is a dog.",
    "The answer is a dog",
    "The answer is a dog.",
    "I choose a dog",
    "Answer: a dog",
    "**A dog**",
    '"A dog"',
    "e.g. this",
    "U.S.A.",
    "A-frame",
    "C++",
    "30 °C",
    "I'd",
    "Vitamin C",
    "the C-shaped thing",
    "BANANA",
    "ab",
    "none",
    "all of the above",
    "...",
    "?",
  ],
)
def test_what_is_no_letter(text):
  assert chosen(text, OPTIONS) is None


@pytest.mark.parametrize(
  ("text", "want"),
  [
    ("a red circle", "A"),
    ("A blue square.", "B"),
    ("Nothing at all!", "C"),
    ("THE RING", "D"),
    ("A man shows a ring to us", "D"),
    ("I think it shows a blue square", "B"),
    ("The answer is a ring", "D"),
    ("The answer is a ring, not a red circle.", "D"),
    ("It is not a red circle but a ring", "D"),
    ("a red circle, no, a ring", "D"),
    ("not a red circle", None),
    ("a red circle and a ring", None),
    ("string", None),
    ("b a blue square", "B"),
    ("d a ring", "D"),
    ("A a red circle", "A"),
    # The letter counts more than the words behind it.
    ("B. a red circle", "B"),
    ("A. a blue square", "A"),
    ("Answer: C (a ring)", "C"),
  ],
)
def test_the_words_of_an_option(text, want):
  assert chosen(text, OPTIONS) == want


def test_options_that_hold_letters_and_each_other():
  options = ("vitamin C", "vitamin A", "both A and B", "a dog", "a dog and a cat")
  assert [chosen(option, options) for option in options] == list("ABCDE")
  assert chosen("It shows vitamin C.", options) == "A"
  assert chosen("One can see a dog and a cat", options) == "E"
  assert chosen("yes", ("yes", "no")) == "A" and chosen("No, it does not.", ("yes", "no")) == "B"
  assert chosen("a dog", ("a dog", "the dog")) is None


@pytest.mark.parametrize(
  "text",
  [
    "None of B, C; A",
    "B, C are wrong; A",
    "Both B and C are wrong, so A",
    "B, C and D aren't it. A.",
  ],
)
def test_several_letters_that_are_denied(text):
  assert chosen(text, OPTIONS) == "A"


@pytest.mark.parametrize(
  ("answer", "want"),
  [
    ("B", "B"),
    ("b", "B"),
    ("(B)", "B"),
    ("B.", "B"),
    ("b) ", "B"),
    ("**B**", "B"),
    ("Ｂ", "B"),
    ("Option B", "B"),
    ("Answer: B", "B"),
    ("The answer is B", "B"),
    ("a blue kite", "B"),
    ("A blue kite.", "B"),
    ("B. a blue kite", "B"),
    ("(B) a blue kite", "B"),
    ("b) Blue kite", "B"),
    ("B: a blue kite", "B"),
    ("B - a blue kite", "B"),
    ("B．a blue kite", "B"),
    ("B a blue kite", "B"),
    ("B.a blue kite", "B"),
    ("A. a red kite", "A"),
    ("a. A red kite!", "A"),
    ("A red kite", "A"),
    ("A. a blue kite", None),
    ("B. a red kite", None),
    ("(B) a kite", None),
    ("C", None),
    ("C. a blue kite", None),
    ("a kite", None),
    ("A or B", None),
    ("", None),
  ],
)
def test_right_answers(answer, want):
  assert named_option(answer, ("a red kite", "a blue kite")) == want


def test_letters_of_options_are_taken_off_in_order():
  assert unlettered(["A. yes", "B. no"]) == ("yes", "no")
  assert unlettered(["(a) yes", "(b) no"]) == unlettered(["A、yes", "Ｂ．no"]) == ("yes", "no")
  assert unlettered(["A. J. Smith", "Bob", "Carl"]) == ("A. J. Smith", "Bob", "Carl")
  assert unlettered(["A. x", "B. y", "none of these"]) == ("x", "y", "none of these")
  assert without_letter("(B) a dog") == "a dog"
  with pytest.raises(ValueError, match="letters B, A, not in order"):
    unlettered(["B. no", "A. yes"])


@pytest.mark.parametrize(
  "part", ["A\n", "A. ", "B is ", "a, ", "not ", "(", " ", "answer is ", "no, "]
)
def test_a_very_long_answer_ends_soon(part):
  start = time.monotonic()
  chosen("B. " + part * 50_000, OPTIONS)
  assert time.monotonic() - start < 30


def test_the_end_of_a_very_long_answer_counts():
  assert chosen("Many things can be seen. " * 1000 + "The answer is B.", OPTIONS) == "B"


@pytest.mark.parametrize(
  "text", ["It is not B. On reflection, it is B.", "First I denied: it is not B. Final answer: B"]
)
def test_what_was_denied_before_may_be_chosen(text):
  assert chosen(text, OPTIONS) == "B"


TEN = tuple(f"the scene number {number}" for number in range(10))


@pytest.mark.parametrize(
  ("text", "letter"),
  [
    ("J", "J"),
    ("(I)", "I"),
    ("The answer is I.", "I"),
    ("J. the scene number 9", "J"),
    ("Option I is correct", "I"),
    ("I think it is J", "J"),
    ("I can't see it, maybe D", "D"),
    ("i would say (H)", "H"),
    ("the scene number 8", "I"),
  ],
)
def test_ten_options_have_letters_and_i_is_a_pronoun(text, letter):
  assert chosen(text, TEN) == letter
  assert named_option(letter, TEN) == letter
  assert chosen("I say B", TEN[:4]) == "B"
