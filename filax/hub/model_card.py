# SPDX-License-Identifier: Apache-2.0
"""The model card of a run, from its own config, data, scores and plan."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

_FILAX = "[FiLax](https://pypi.org/project/filax/)"
_COUNTS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))


@dataclasses.dataclass(frozen=True)
class CardFacts:
  """The facts that a model card states.

  config: the config without paths (filax.hub.shared_config).
  parameters: role -> number of parameters.
  record: the newest record of metrics.jsonl.
  scores: the scores of evaluations during training, by name.
  results: the result.json of evaluations.
  fingerprint: the fingerprint of the plan of rows.
  license_name, base_model: "" if unknown.
  adapters: whether the folder holds adapters for PEFT, and no model.
  """

  repo: str
  version: str
  config: Mapping[str, Any]
  parameters: Mapping[str, int]
  record: Mapping[str, Any]
  scores: Mapping[str, float]
  results: Sequence[Mapping[str, Any]]
  fingerprint: str
  license_name: str = ""
  base_model: str = ""
  adapters: bool = False


def write_card(facts: CardFacts) -> str:
  """The card as Markdown with its YAML head."""
  name = facts.repo.rpartition("/")[2]
  sections = [
    _head(facts),
    f"# {name}",
    f"{_kind(facts)}, written by `filax push` ({_FILAX} {facts.version}).",
    _adapter_usage(facts) if facts.adapters else _usage(facts),
    _model(facts),
    _data(facts),
    _training(facts),
    _scores(facts),
  ]
  return "\n\n".join(filter(None, sections)) + "\n"


def _head(facts: CardFacts) -> str:
  """The YAML head; JSON values are YAML."""
  llm = facts.config.get("model", {}).get("llm", {}).get("name", "")
  head: dict[str, Any] = dict(
    library_name="peft" if facts.adapters else "filax",
    pipeline_tag="video-text-to-text" if _sees_videos(facts) else "text-generation",
    tags=list(filter(None, ("video", "jax", "filax", llm))),
  )
  if facts.license_name:
    head["license"] = facts.license_name
  if facts.base_model:
    head["base_model"] = facts.base_model
  if facts.results:
    head["model-index"] = [
      dict(name=facts.repo, results=[_index_entry(result) for result in facts.results])
    ]
  lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
  return "\n".join(["---", *lines, "---"])


def _index_entry(result: Mapping[str, Any]) -> dict[str, Any]:
  """A result in the form of the hub's model index."""
  metrics = []
  for name, value in result["scores"].items():
    if value is not None:
      metrics.append(dict(type=name, value=round(float(value), 4)))
  return dict(
    task=dict(type="video-text-to-text"),
    dataset=dict(name=result["benchmark"], type=result["benchmark"]),
    metrics=metrics,
  )


def _sees_videos(facts: CardFacts) -> bool:
  """Whether the model has an encoder.

  True for a folder that does not describe its model.
  """
  model = facts.config.get("model", {})
  return not model or "encoder" in model


def _kind(facts: CardFacts) -> str:
  if facts.adapters:
    return "Low-rank adapters for [PEFT](https://huggingface.co/docs/peft)"
  return "A video language model" if _sees_videos(facts) else "A language model"


def _adapter_usage(facts: CardFacts) -> str:
  base = facts.base_model or "the model that they were trained over"
  return f"""## Use

```python
from peft import PeftModel

base = ...  # {base}, loaded with transformers.
model = PeftModel.from_pretrained(base, "{facts.repo}")
```"""


def _usage(facts: CardFacts) -> str:
  question = '"lecture.mp4", "When is the proof finished?"'
  if not _sees_videos(facts):
    question = 'None, "When was the theorem proved?"'
  return f"""## Use

```python
import filax
from huggingface_hub import snapshot_download

session = filax.load(snapshot_download("{facts.repo}"))
print(session.ask({question}))
```"""


def _model(facts: CardFacts) -> str:
  model = facts.config.get("model", {})
  rows = []
  for role in ("encoder", "selector", "merger", "projector", "llm"):
    part = dict(model.get(role, {}))
    if not part:
      continue
    name = part.pop("name", "")
    rest = ", ".join(f"{key} {value}" for key, value in part.items() if _is_plain(value))
    count = facts.parameters.get(role, 0)
    rows.append(f"| {role} | {name} | {rest} | {_short(count) if count else '-'} |")
  if not rows:
    return ""
  table = ["| part | name | settings | parameters |", "|---|---|---|---|", *rows]
  infer = facts.config.get("infer", {})
  sampling = infer.get("sampling", {})
  selector = infer.get("selector", {})
  if not sampling:
    return "\n".join(["## Model", "", *table])
  reading = (
    f"It reads {sampling.get('frames', '?')} frames of a video ({sampling.get('name', '?')}), with "
    f"selector {selector.get('name', '?')}."
  )
  if "dtype" in model:
    reading += f" Computed in {model['dtype']}."
  return "\n".join(["## Model", "", *table, "", reading])


def _data(facts: CardFacts) -> str:
  data = facts.config.get("data", {})
  if not data:
    return ""
  lines = ["## Data", ""]
  for manifest, strategy in data.get("train", ()):
    lines.append(f"- `{manifest}`, {strategy}")
  if data.get("train"):
    lines.append("")
  lines.append(
    f"Template `{data.get('template', '?')}`, time prompt `{data.get('time_prompt', '?')}`, frames "
    f"{json.dumps(data.get('sampling', {}))}."
  )
  if facts.fingerprint:
    lines.append(f"The plan of its rows has the fingerprint `{facts.fingerprint[:16]}`.")
  return "\n".join(lines)


def _training(facts: CardFacts) -> str:
  config = facts.config
  if "optim" not in config:
    return ""  # An export does not say how it was trained.
  optim = config.get("optim", {})
  lines = [
    "## Training",
    "",
    f"- optimizer {optim.get('kind', 'adamw')}, batch {config.get('batch', '?')} rows, seed "
    f"{config.get('seed', '?')}",
    f"- rates {json.dumps(optim.get('rates', ()))}",
    f"- mesh {json.dumps(dict(config.get('mesh', {})))}",
  ]
  ranks = config.get("lora", {}).get("ranks", ())
  if ranks:
    lines.append(f"- low-rank adapters {json.dumps(ranks)}, merged into the weights")
  if facts.record:
    loss = facts.record.get("loss")
    words = f"- {facts.record['step']} steps"
    if loss is not None:
      words += f", loss {loss:.4f} at the last"
    lines.append(words)
  return "\n".join(lines)


def _scores(facts: CardFacts) -> str:
  rows = []
  for result in facts.results:
    for name, value in result["scores"].items():
      if value is not None:
        what = f"{result['benchmark']} ({result['protocol']})"
        rows.append(f"| {what} | {name} | {value:.4g} | {result['questions']} |")
  for name, value in facts.scores.items():
    _, _, score = name.partition("/")
    benchmark, _, metric = score.partition("/")
    rows.append(f"| {benchmark}, while training | {metric} | {value:.4g} | - |")
  if not rows:
    return "## Scores\n\nNone were measured."
  table = ["| benchmark | score | value | questions |", "|---|---|---|---|", *rows]
  return "\n".join(["## Scores", "", *table])


def _is_plain(value: Any) -> bool:
  return isinstance(value, str | int | float) and not isinstance(value, bool)


def _short(number: int) -> str:
  """1234567 -> "1.2M"."""
  for size, letter in _COUNTS:
    if number >= size:
      return f"{number / size:.1f}{letter}"
  return str(number)
