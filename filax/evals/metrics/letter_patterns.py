# SPDX-License-Identifier: Apache-2.0
"""Regular expressions for the context of answer letters."""

from collections.abc import Sequence
import re

_ALPHABETIC = "0-9A-Za-z\u00aa-\u052f"  # Latin, Greek and Cyrillic; Chinese has no spaces.
_QUOTE_MARKS = "\"'*_`"
_MARKS = r"\s:=,\"'*_`(\[{<>$#~\\\-"  # Allowed between an announcing word and its letter.
_BEHIND = r"[\s\"'*_`)\]}>$]*"  # Closing marks after a letter.
DECORATION = " \t\n\r\"'*_`()[]{}<>$#.,:;!?-"


def _words(text: str) -> str:
  """Words or phrases, separated by "|", as one pattern."""
  alternatives = re.sub(r"\s*\|\s*", "|", text.strip())
  spaced = re.sub(" +", lambda _: r"\s+", alternatives)
  return rf"\b(?:{spaced})\b"


def _pattern(text: str) -> re.Pattern:
  return re.compile(text, re.IGNORECASE)


def of_words(words: Sequence[str]) -> re.Pattern:
  """A pattern of these words, with punctuation and articles between them."""
  between = rf"[^{_ALPHABETIC}]+(?:(?:a|an|the)[^{_ALPHABETIC}]+)*"
  inner = between.join([re.escape(word) for word in words])
  return _pattern(rf"(?<![{_ALPHABETIC}]){inner}(?![{_ALPHABETIC}])")


# A separate letter: not part of a word, nor of "I'd", "e.g.", "A-frame", "C++" or "30 °C".
LETTER = _pattern(
  rf"(?<![{_ALPHABETIC}°@])(?<![{_ALPHABETIC}]['&+-])(?<!\b[A-Z]\.)[A-J]"
  rf"(?![{_ALPHABETIC}+#@])(?!['&-][{_ALPHABETIC}])(?!\.[A-Z]\.)"
)
NEXT_LETTER = re.compile(r"[ \t]+[A-J](?![\w-])|[ \t]+[a-j](?![\w-])")
NEXT_WORD = re.compile(rf"[ \t]+[{_QUOTE_MARKS}]*(?P<word>[{_ALPHABETIC}']+)(?P<colon>[ \t]*:)?")
# Words that can follow the letter A, but not the article.
FOLLOWERS = frozenset(
  """
  because since as is was are were be and or nor but not for due given based which that it it's its
  he she they i we you the this these those there if so then when while where than to of in on at by
  from with would could should must can cannot can't might isn't wasn't aren't doesn't don't does
  seems appears shows looks fits matches describes represents has had contradicts fails though
  although however instead only over prefer probably definitely obviously certainly imo makes
  applies holds beats works wins through vs versus also wait actually sorry oops please all both
  """.split()
)
_BEST_VERB = (  # After a letter, not after the article.
  r"(?:best|correctly|accurately|most accurately|clearly|most closely)\s+"
  r"(?:is|describes?|match(?:es)?|fits?|represents?|reflects?|shows?|answers?|explains?)\b"
)
VERB_AFTER = _pattern(rf"\s+(?:(?:rather|better)\s+than\b|\d+\s?%|{_BEST_VERB})")
OPTION_BEFORE = _pattern(
  rf"(?:\b(?:option|choice|letter|opción|opcion)|选项|选)[\s{_QUOTE_MARKS}(\[{{<$#-]*$"
)
NAME_BEFORE = _pattern(
  r"\b(?:vitamin|hepatitis|plan|team|grade|group|section|gate|appendix|figure|player|mr\.?|ms\.?"
  r"|mrs\.?|dr\.?)\s+$"
)

# Between letters of one group, such as "A and B".
JOINT = _pattern(
  r"[ \t\"'*_`()\[\]}>$]*(?:(?:[,/|]|(?P<word>and/or|through|vs\.?|versus|[,;]?\s*also|and|or|nor"
  r"|&|\+|plus|as well as|along with|but also|und|oder|et|ou|y|和|或|与"
  r"|,\s*(?:and|or|nor|but also)))"
  r"(?:\s*\b(?:also|maybe|perhaps|possibly|either|both|even|option|choice|letter|the|answer)\b)*"
  r"\s*)?[ \t\"'*_`(\[{<$]*"
)

_CERTAINTY = """
  the|therefore|thus|clearly|definitely|probably|likely|most|most likely|indeed|obviously|simply
  |just|still|certainly|really|actually|also"""
_FILLER = _words(
  _CERTAINTY
  + """
  |option|options|choice|letter|answer|correct|right|best|one|as|with|for|to|number|that|it|is|was
  |would be|should be|must be|will be|has to be|either|both|only|be|my|final"""
)
_STATING = _words("""
  answer|ans|response|solution|conclusion|guess|réponse|respuesta|antwort|risposta|resposta|ответ
  |choose|chose|chosen|select|selected|pick|picked|go with|going with|opt for|say|vote for|think
  |believe|conclude|concluded|prefer|it is|it's|that is|that's|must be|should be|would be|has to be
  |therefore|thus|hence|so|boxed|verdict
  |(?:option|choice|letter|one|selection|pick)\\s*(?:is|was|would be|must be|should be)""")
STATED_BEFORE = _pattern(
  rf"(?:{_STATING}|\b(?:option|choice|selection|pick)\s*[:=]|答案|正确|正解|答え|정답|选择?|应选)"
  rf"(?:[{_MARKS}是为はの은는]*(?:{_FILLER}|\b(?:est|es|ist|è|é)\b|选项|选))*[{_MARKS}是为は은는]*$"
)
_BEING = r"(?:is|was|are|were|would\s+be|must\s+be|should\s+be|seems?|looks?|appears?|sounds?)"
_ADVERBS = rf"(?:(?:{_words(_CERTAINTY)}|\b(?:a|an|all|both|so|too|very|to be)\b)\s+)*"
STATED_AFTER = _pattern(
  rf"{_BEHIND}[.)]?{_BEHIND}(?:{_BEING}\s+{_ADVERBS}"
  r"(?:correct|right|true|accurate|best|better|closest|closer|answer|match|one|choice|solution"
  r"|(?:more|most)\s+\w+)\b"
  rf"|{_BEST_VERB}|是正确|正确|が正解)"
)

_UNWANTED = """
  wrong|incorrect|false|excluded|eliminated|impossible|ruled out|unlikely|inaccurate|untrue|never
  |irrelevant|misleading|out|no"""
DENIED_AFTER = _pattern(
  rf"{_BEHIND}(?:\s*\b(?:option|choice|also|clearly|here|both|all)\b)*\s*(?:"
  rf"{_BEING}\s+{_ADVERBS}(?:not\b(?!\s+(?:wrong|incorrect|false))|{_words(_UNWANTED)})"
  r"|(?:isn't|wasn't|aren't|weren't|can't|cannot|can\s+not|couldn't|could\s+not|doesn't|does\s+not"
  r"|don't|do\s+not|didn't|did\s+not|won't|will\s+not|wouldn't|would\s+not|must\s+not|mustn't"
  r"|should\s+not|shouldn't|fails|contradicts|has\s+no)\b"
  r"|[:=(-]\s*(?:is\s+)?(?:wrong|incorrect|false|excluded|eliminated|nope)\b|不对|错|不正确|不是)"
)
_DENYING = _words("""
  not|never|neither|nor|cannot|can't|without|except|excluding|exclude|excluded|unlike|reject
  |rejected|eliminate|eliminated|eliminating|discard|discarded|discarding
  |rules? out|ruled out|ruling out|instead of
  |rather than|other than|none of|anything but|doubt""")
_DENIED_FILLER = _words("""
  think|believe|say|choose|pick|select|it|it's|is|was|be|the|answer|option|options|choice|choices
  |letter|correct|right|best|either|any|one|of|going|go|with|to|for|would|should|could|can|have
  |definitely|clearly|really|certainly|probably|necessarily|by|that|also|a|an|both|all|actually""")
_DENIED_MARKS = r"\s:\"'*_`(\[{<$"
DENIED_BEFORE = _pattern(
  rf"(?:(?!not\s+(?:only|just|merely|simply)\b){_DENYING}|n't"
  rf"|\b(?:wrong|incorrect|false)\s+{_words('answer|option|choice|letter|one')}s?"
  rf"(?:\s+(?:is|are|was|would\s+be))?|\b(?:wrong|incorrect)\s*:|不是|不选|并非)"
  rf"(?:[{_DENIED_MARKS}]+{_DENIED_FILLER})*[{_DENIED_MARKS}]*$"
)

FROM = _pattern(r"from\W+(?:option\W+)?[A-J]\W+to\b")
CORRECTION = _pattern(
  rf"{FROM.pattern}|\b(?:no|nope|nah)\b(?=\s*[,.!:;-])|(?<=[,.;:!?-])\s*\bno\b|"
  + _words("""
  wait|actually|sorry|oops|correction|i mean|i meant|scratch that|strike that|make that|or rather
  |on second thoughts?|on reflection|thinking again|let me (?:reconsider|rethink|correct)
  |my mistake|hold on
  |(?:change|changed|changing) (?:my answer|it|that|this)""")
  + "|不对|更正|其实"
)

ALL_DENIED = _pattern(r"\b(?:none|neither|nor|are|were|aren't|weren't|do\s+not|don't|all|both)\b")
STRUCK = _pattern(r"~~.*?~~|<(?:s|del|strike)>.*?</(?:s|del|strike)>")
STYLED = _pattern(r"<(?P<tag>b|i|u|p|em|strong|span|code|big|h\d)\b[^<>]*>(?P<text>.*?)</(?P=tag)>")
HYPHEN = _pattern(r"\b(?P<noun>option|choice|answer)-(?=[A-J]\b)")
MARK = re.compile(rf"[{_QUOTE_MARKS}]*[.):\]][{_QUOTE_MARKS}]*[ \t]+\S")
LISTED = re.compile(rf"[{_QUOTE_MARKS}]*(?:[):\]]|\.(?=[ \t]+[a-z0-9]))[{_QUOTE_MARKS}]*[ \t]+\S")
CLAUSE_START = re.compile(rf"(?:^|[\n.!?;:,]|\s-)[\s{_QUOTE_MARKS}(\[{{<$#>-]*$")
CLAUSE_STOP = re.compile(rf"[{_QUOTE_MARKS}\s)\]}}>$]*(?:$|[.!?;,\n])")
PREFIX = _pattern(
  rf"[\s{_QUOTE_MARKS}(\[{{<$#>-]*(?:(?:the|option|choice|letter|answer)\b"
  rf"[\s{_QUOTE_MARKS}(\[{{<$#>:-]*)*"
)

# A letter that labels the following text: "B. ", "(B) ", "b: ", "Option B - ".
LABEL = _pattern(
  rf"[\s{_QUOTE_MARKS}]*(?:(?:option|choice|answer)\b[\s:]*)?[\s{_QUOTE_MARKS}]*[(\[]?\s*"
  rf"(?P<letter>[A-J])[{_QUOTE_MARKS}]*\s?"
  rf"(?:[)\]][{_QUOTE_MARKS}]*[.:,]?|(?:[.:,]|\s-)(?![{_ALPHABETIC}]))[\s{_QUOTE_MARKS}]*"
)
LOOSE_LABEL = _pattern(rf"\W*(?:(?:option|choice|answer)\b\W*)?(?P<letter>[A-J])[^{_ALPHABETIC}]+")
ONLY_LETTER = _pattern(
  rf"[\s{_QUOTE_MARKS}(\[{{<$]*(?:(?:the\s+)?(?:(?:correct|right|best)\s+)?"
  rf"(?:answer|option|choice|letter)\b(?:\s+is\b)?[\s:]*)?[\s{_QUOTE_MARKS}(\[{{<$]*"
  rf"(?P<letter>[A-J])[\s{_QUOTE_MARKS})\]}}>$.:,;!-]*"
)
