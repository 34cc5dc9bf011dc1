# SPDX-License-Identifier: Apache-2.0
"""report.html: the demo on one page, light or dark."""

from collections.abc import Mapping, Sequence
import html
import pathlib

from filax.demo import figures
from filax.demo.examples import SampleAnswer, SampleQuestion
from filax.infer.contact_sheet import clock

STYLE = """
:root { color-scheme: light dark; --paper: #f5f6f8; --card: #ffffff; --ink: #1d2129;
  --faint: #6b7280; --line: #d5d9e0; --good: #15803d; --bad: #b91c1c; --accent: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --paper: #0e1015; --card: #171a21; --ink: #e8eaee;
  --faint: #9aa1ad; --line: #353b47; --good: #4ade80; --bad: #f87171; --accent: #7aa7ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -0.02em; }
h2 { font-size: 19px; margin: 44px 0 12px; }
p { margin: 0 0 14px; max-width: 74ch; }
.faint { color: var(--faint); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 16px 18px; overflow-x: auto; }
.row { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.number { font-size: 30px; font-weight: 650; letter-spacing: -0.02em; line-height: 1.2; }
.card > picture > img { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 7px 10px; border-top: 1px solid var(--line); }
th { color: var(--faint); font-weight: 500; border-top: 0; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.sample { margin-bottom: 12px; }
.sample h3 { font-size: 16px; margin: 0 0 10px; }
.told { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin-top: 8px; }
.told .way { width: 76px; color: var(--faint); }
.told .answer { width: 118px; font-weight: 600; }
.told img { width: 56px; height: 56px; border-radius: 6px; margin-right: 3px; vertical-align: top; }
.good { color: var(--good); } .bad { color: var(--bad); }
code { font: 13.5px/1.6 ui-monospace, SFMono-Regular, Menlo, monospace; white-space: pre; }
"""


def write_page(
  path: pathlib.Path,
  numbers: Mapping,
  evals: Mapping[str, Mapping],
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
    "<h2>Sample answers</h2>",
    *map(_sample_card, samples),
    "<h2>Training</h2>",
    f'<div class="card">{figures.loss_curve(curves)}</div>',
    _times(numbers, seconds),
    "<h2>Ask it yourself</h2>",
    _commands(numbers, samples[0]),
  ]
  body = "\n".join(parts)
  path.write_text(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>FiLax demo</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n"
    "</main>\n</body>\n</html>\n"
  )


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
    blocks.append(
      f'<div class="card"><div class="faint">{name}</div><div class="number">{value:.1%}</div>'
      f'<div class="faint">{note}</div></div>'
    )
  return f'<div class="row">{"".join(blocks)}</div>'


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
  head = "".join(f"<th>{name}</th>" for name in ("kind", "questions", *evals))
  lines = []
  for kind, row in evals["scenes"]["by"]["kind"].items():
    accuracies = [report["by"]["kind"][kind]["accuracy"] for report in evals.values()]
    lines.append(_table_row(html.escape(kind), row["questions"], accuracies))
  accuracies = [report["accuracy"] for report in evals.values()]
  lines.append(_table_row("<b>all</b>", numbers["questions"], accuracies))
  return f'<div class="card"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _table_row(name: str, questions: int, accuracies: Sequence[float]) -> str:
  cells = "".join(f"<td>{accuracy:.3f}</td>" for accuracy in accuracies)
  return f"<tr><td>{name}</td><td>{questions}</td>{cells}</tr>"


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
    f"filax scenes --checkpoint {checkpoint} --video {video} --out scenes.png</code></div>"
  )
