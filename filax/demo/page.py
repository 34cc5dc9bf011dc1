# SPDX-License-Identifier: Apache-2.0
"""report.html: the demo on one page, light or dark."""

from collections.abc import Mapping, Sequence
import html
import pathlib

from filax.demo import figures
from filax.demo.examples import SampleAnswer, SampleQuestion
from filax.evals import html_page
from filax.evals.html_page import Markup, element
from filax.infer.contact_sheet import clock

STYLE = """
.sample { margin-bottom: 12px; }
.told { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin-top: 8px; }
.told .way { width: 76px; color: var(--faint); }
.told .answer { width: 118px; font-weight: 600; }
.told img { width: 56px; height: 56px; border-radius: 6px; margin-right: 3px; vertical-align: top; }
"""


def write_page(
  path: pathlib.Path,
  numbers: Mapping,
  evals: Mapping[str, Mapping],
  hidden: Mapping[str, Mapping],
  curves: Sequence[Sequence[Mapping]],
  samples: Sequence[SampleQuestion],
  seconds: Mapping[str, float],
) -> None:
  """Writes the page; it refers to no other file."""
  parts = [
    _introduction(numbers),
    _cards(numbers),
    "<h2>Which frames the model sees</h2>",
    _frame_sheet(samples[0]),
    "<h2>Accuracy by kind of question</h2>",
    _accuracy_table(evals, numbers),
    "<h2>One short scene in up to 1,000 frames</h2>",
    _hidden_map(numbers, hidden),
    "<h2>Sample answers</h2>",
    *map(_sample_card, samples),
    "<h2>Training</h2>",
    f'<div class="card">{figures.loss_curve(curves)}</div>',
    _times(numbers, seconds),
    "<h2>Ask it yourself</h2>",
    _commands(numbers, samples[0]),
  ]
  path.write_text(html_page.whole_page("FiLax demo", map(Markup, parts), style=STYLE), "utf-8")


def _introduction(numbers: Mapping) -> str:
  return (
    "<h1>FiLax demo</h1>\n"
    '<p class="faint">A tiny FiLA-Video, trained from nothing on real H.264 files, answers '
    f"{numbers['questions']} questions about {numbers['videos']} videos that it has never seen. "
    "Half of the questions are about scenes of 3 to 5 seconds in videos of minutes.</p>"
  )


def _cards(numbers: Mapping) -> str:
  cards = (
    ("Scene selection", numbers["accuracy"], "all questions"),
    ("Uniform frames", numbers["accuracy_uniform"], "all questions, as many tokens"),
    ("Scene selection", numbers["accuracy_short_scenes"], "short scenes"),
    ("Uniform frames", numbers["accuracy_short_uniform"], "short scenes"),
    ("Grey pictures", numbers["accuracy_blind"], f"guessing gives {numbers['chance']:.1%}"),
  )
  blocks = []
  for name, value, note in cards:
    blocks.append(html_page.number_card(name, f"{value:.1%}", note))
  return html_page.card_row(blocks)


def _frame_sheet(sample: SampleQuestion) -> str:
  """The frames of a video under both selections."""
  rows = []
  for name, answer in sample.answers.items():
    groups, group_size = answer.times.shape
    title = f"{name.capitalize()}: {groups} groups of {group_size} frames"
    frames = answer.frames.reshape(-1, *answer.frames.shape[2:])
    rows.append((title, frames, answer.times.reshape(-1)))
  first = next(iter(sample.answers.values()))
  _, group_size = first.times.shape
  return (
    "<p>Frames at even times repeat long scenes and pass over short ones; K-Means over the frames' "
    f"features finds a group for each scene. Video {html.escape(sample.video.name)}; each group of "
    f"{group_size} frames becomes 4 visual tokens.</p>"
    f'<div class="card">{figures.frame_sheet(rows[::-1], group_size)}</div>'
  )


def _accuracy_table(evals: Mapping[str, Mapping], numbers: Mapping) -> str:
  """A row for every kind of question, a column for every evaluation."""
  rows = []
  for kind, row in evals["scenes"]["by"]["kind"].items():
    accuracies = [report["by"]["kind"][kind]["accuracy"] for report in evals.values()]
    rows.append([kind, row["questions"], *map(_accuracy, accuracies)])
  accuracies = [report["accuracy"] for report in evals.values()]
  rows.append([element("b", "all"), numbers["questions"], *map(_accuracy, accuracies)])
  return html_page.table(("kind", "questions", *evals), rows)


def _hidden_map(numbers: Mapping, hidden: Mapping[str, Mapping]) -> str:
  """Accuracy by length of the video and place of the scene."""
  panels = {
    f"Scene selection: {numbers['accuracy_hidden_scenes']:.1%}": hidden["hidden_scenes"],
    f"Uniform frames: {numbers['accuracy_hidden_uniform']:.1%}": hidden["hidden_uniform"],
  }
  tables = {title: figures.hidden_table(report["by"]["kind"]) for title, report in panels.items()}
  return (
    "<p>Each video shows five long scenes, and one scene of 3 to 5 seconds that is asked about. "
    "Depth is its place: 0 is the beginning of the video, 1 the end. Both selections give the "
    "model 24 frames.</p>"
    f'<div class="card">{figures.hidden_map(tables)}</div>'
  )


def _accuracy(accuracy: float) -> str:
  return f"{accuracy:.3f}"


def _sample_card(sample: SampleQuestion) -> str:
  """A question with both answers."""
  answers = "".join(_answer_line(name, answer) for name, answer in sample.answers.items())
  return (
    f'<div class="card sample"><h3>{html.escape(sample.question)} <span class="faint">'
    f"{html.escape(sample.video.name)}, {html.escape(sample.kind)}; right is "
    f"{html.escape(sample.expected)}</span></h3>{answers}</div>"
  )


def _answer_line(name: str, answer: SampleAnswer) -> str:
  """An answer with a thumbnail of every group."""
  pictures = []
  for frames, times in zip(answer.frames, answer.times, strict=True):
    pictures.append(figures.thumbnail(frames[answer.middle], clock(times[answer.middle])))
  mark, style = ("✓", "good") if answer.right else ("✗", "bad")
  return (
    f'<div class="told"><span class="way">{name}</span><span class="answer {style}">{mark} '
    f"{html.escape(answer.answer)}</span><span>{''.join(pictures)}</span></div>"
  )


def _times(numbers: Mapping, seconds: Mapping[str, float]) -> str:
  parts = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
  return (
    f'<p class="faint" style="margin-top:12px">{numbers["steps"]} steps, '
    f"{numbers['frames_per_second']:,.0f} frames a second. Time: {parts}; "
    f"{numbers['total_seconds']:.0f} s in all.</p>"
  )


def _commands(numbers: Mapping, sample: SampleQuestion) -> str:
  checkpoint = html.escape(numbers["checkpoint"])
  video = html.escape(str(sample.video))
  return (
    f'<div class="card"><code>filax chat --checkpoint {checkpoint} --video {video} \\\n'
    f'  --question "{html.escape(sample.question)}" --json\n'
    f"filax scenes --checkpoint {checkpoint} --video {video} --out scenes.png\n"
    f"filax serve --checkpoint {checkpoint}  # It prints the address of its page.</code></div>"
  )
