# SPDX-License-Identifier: Apache-2.0
"""The files beside exported weights: config.json, tokenizer, processors and the programs."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import shutil
from typing import Any

from filax.convert import export_template, processor_files
from filax.convert.formats import ExportFormat
from filax.convert.llm_config_out import ExportVocabulary
from filax.convert.output_folder import TOKENIZER_FILES
from filax.models import components

PLACEHOLDERS = ("<image>", "<video>")
EXPORT_KIT = Path(__file__).parent / "export_kit"


def read_vocabulary(tokenizer: Any) -> ExportVocabulary | None:
  """The plain ids of a tokenizer; None without one."""
  if tokenizer is None:
    return None
  names = {} if tokenizer.chat is None else tokenizer.chat.names
  return ExportVocabulary(
    tokens=tokenizer.vocab_size,
    pad=tokenizer.pad_id,
    stop=tuple(tokenizer.stop_ids),
    controls=dict(tokenizer.controls),
    start=tokenizer.controls.get(names.get("bos_token")),
    chat=tokenizer.chat,
  )


def copy_tokenizer(out: Path, run_folders: Sequence[Path], tokenizer: Any) -> None:
  """Copies the run's tokenizer files, and writes `tokenizer` if there is one."""
  for name in TOKENIZER_FILES:
    for folder in run_folders:
      if (folder / name).is_file():
        shutil.copy(folder / name, out / name)
        break
  if tokenizer is not None:
    tokenizer.save(out)


def write_documents(
  out: Path,
  export_format: ExportFormat,
  config: Mapping[str, Any],
  dtype: str,
  vocabulary: ExportVocabulary | None,
) -> None:
  """Writes config.json, the other JSON files and the programs of a format.

  The tokenizer's files, already in `out`, take precedence over ours.
  """
  ids = placeholder_ids(config["model"], vocabulary)
  if export_format.processors and (out / "tokenizer.json").exists():
    _add_placeholders(out / "tokenizer.json", ids, config["model"])
  documents = {"config.json": export_format.config(config, dtype, vocabulary, ids)}
  if vocabulary is not None:
    documents |= _vocabulary_documents(out, config, vocabulary)
    if export_format.roles == ("llm",) and (settings := documents.get("tokenizer_config.json")):
      template = export_template.language_template(config, vocabulary.chat, vocabulary.controls)
      settings |= dict(chat_template=template) if template else {}
  if export_format.processors:
    chat = None if vocabulary is None else vocabulary.chat
    documents |= processor_files.processor_files(config, chat)
  for name, content in documents.items():
    (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
  for source, name in export_format.files:
    shutil.copy(EXPORT_KIT / source, out / name)


def _vocabulary_documents(
  out: Path, config: Mapping[str, Any], vocabulary: ExportVocabulary
) -> dict[str, dict[str, Any]]:
  """Settings of generation and of the tokenizer.

  Files in `out` keep their other entries.

  Those in `out` keep their other entries. There is none of a tokenizer.model that came without
  its settings.
  """
  generation = _read_settings(out / "generation_config.json")
  if generation:
    generation["eos_token_id"] = list(vocabulary.stop)
  else:
    generation = processor_files.generation_config(vocabulary)
  documents = {"generation_config.json": generation}
  settings = _read_settings(out / "tokenizer_config.json")
  if not settings and (out / "tokenizer.json").exists():
    settings = processor_files.tokenizer_config(config, vocabulary)
  if settings:
    documents["tokenizer_config.json"] = settings
  # Its template is in tokenizer_config.json, too. Other software would prefer the file.
  (out / "chat_template.jinja").unlink(missing_ok=True)
  return documents


def _read_settings(file: Path) -> dict[str, Any]:
  """The content of a JSON file; {} without one."""
  return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def placeholder_ids(
  model: Mapping[str, Any],
  vocabulary: ExportVocabulary | None,
) -> tuple[int, ...]:
  """Ids of <image> and <video>.

  The tokenizer's own ids, or rows that no token uses.
  """
  rows = components.build("llm", model["llm"]).vocab
  controls: dict[str, int] = {}
  free = rows - len(PLACEHOLDERS)
  if vocabulary is not None:
    controls.update(vocabulary.controls)
    free = vocabulary.tokens
  ids = []
  for name in PLACEHOLDERS:
    if name not in controls and free < rows:
      controls[name] = free
      free += 1
    ids.append(controls.get(name, controls.get("<unk>", rows - 1)))  # Text has no <unk>.
  return tuple(ids)


def _add_placeholders(file: Path, ids: Sequence[int], model: Mapping[str, Any]) -> None:
  """Adds the placeholders to a tokenizer.json, if there are rows for them."""
  rows = components.build("llm", model["llm"]).vocab
  content = json.loads(file.read_text(encoding="utf-8"))
  added = content.setdefault("added_tokens", [])
  used_names = {token["content"] for token in added}
  used_ids = {token["id"] for token in added}
  for name, id in zip(PLACEHOLDERS, ids, strict=True):
    if name in used_names or id in used_ids or id >= rows:
      continue
    token = dict(
      id=id,
      content=name,
      single_word=False,
      lstrip=False,
      rstrip=False,
      normalized=False,
      special=True,
    )
    added.append(token)
  added.sort(key=lambda token: token["id"])
  file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
