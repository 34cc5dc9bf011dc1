# SPDX-License-Identifier: Apache-2.0
"""transformers asks an exported model with the ids of `filax chat`."""

import itertools
import json
import pathlib

import packages
import pytest
import transformers

from data_pipelines.text import templates
import filax
from filax.cli.main import main
from filax.testing import qwen2_folder, tiny_checkpoint, tiny_tokenizer

pytestmark = pytest.mark.slow

QUESTION = "What is shown in the video? {{ 1 }}"
TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
CHATML = (
  "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
  "{% for m in messages %}"
  + TURN
  + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OTHER = (  # Another form, which cuts spaces off and would write the date.
  "{% for m in messages %}{% if loop.first and strftime_now is defined %}{{ strftime_now('%d') }}"
  "{% endif %}<|im_start|>[{{ m.role }}] {{ m.content | trim }}<|im_end|>{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>[assistant]{% endif %}"
)

DATED = OTHER.replace("loop.first and strftime_now is defined", "loop.first")  # Always a date.


def prompts(run: pathlib.Path, folder: pathlib.Path) -> tuple[list[int], list[int]]:
  """The ids of the question: those of chat, and those of transformers."""
  processor = filax.load(run).processor
  ids, _ = processor.encode_prompt(templates.question(QUESTION, 0), [])
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  messages = [dict(role="user", content=QUESTION)]
  theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
  return ids, theirs["input_ids"]


def export(run: pathlib.Path, out: pathlib.Path, kind: str = "qwen2") -> pathlib.Path:
  words = ["convert", "to", "--checkpoint", str(run), "--out", str(out), "--format", kind]
  assert main(words) == 0
  return out


@pytest.mark.parametrize(
  ("template", "source"),
  [
    *itertools.product(("chatml", "brief"), ("", CHATML, OTHER)),
    *itertools.product(("chat",), (CHATML, OTHER, DATED)),
  ],
)
@pytest.mark.parametrize("system", ["", "Be kind.", "You {{ 'see' }} it's \"é\"\n."])
def test_the_export_of_a_run_is_asked_as_the_run(source, template, system, tmp_path):
  settings = {"data.template": template, "data.system": system}
  run = pathlib.Path(tiny_checkpoint.write_checkpoint(tmp_path / "run", **settings))
  (run / "tokenizer.model").unlink()
  tiny_tokenizer.write_qwen_tokenizer(run)
  if source:
    (run / "tokenizer_config.json").write_text(json.dumps(dict(chat_template="old")))
    (run / "chat_template.jinja").write_text(source)
  ours, theirs = prompts(run, export(run, tmp_path / "out"))
  assert ours == theirs


@pytest.mark.parametrize("source", ["", CHATML, OTHER, DATED])
def test_the_export_of_a_released_model_keeps_its_template(source, tmp_path):
  hub = qwen2_folder.write_qwen2_folder(
    tmp_path / "hub", qwen2_folder.qwen2_tensors(vocab=420), vocab_size=420
  )
  tiny_tokenizer.write_qwen_tokenizer(hub)
  (hub / "tokenizer_config.json").write_text(json.dumps(dict(chat_template=source)))
  run = tmp_path / "run"
  assert main(["convert", "from", "--source", str(hub), "--out", str(run)]) == 0
  out = export(run, tmp_path / "out")
  ours, theirs = prompts(run, out)
  assert ours == theirs
  kept = json.loads((out / "tokenizer_config.json").read_text())["chat_template"]
  written = source.replace("strftime_now('%d')", "'01'") if source == DATED else source
  assert not source or kept.endswith(written)
  stop = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
  assert stop == list(filax.load(run).processor.stop)


@pytest.mark.parametrize("name, kind", [("qwen2_5", "qwen2"), ("qwen3", "qwen3")])
def test_real_tokenizers_are_asked_in_the_same_way(name, kind, tmp_path):
  hub = tmp_path / "hub"
  config_class = dict(qwen2=transformers.Qwen2Config, qwen3=transformers.Qwen3Config)[kind]
  sizes = dict(
    hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, head_dim=8
  )
  config = config_class(**sizes, num_key_value_heads=1, vocab_size=151_936)
  transformers.AutoModelForCausalLM.from_config(config).save_pretrained(hub)
  for file in packages.package(name).iterdir():
    (hub / file.name).write_bytes(file.read_bytes())
  ours, theirs = prompts(hub, export(hub, tmp_path / "out", kind))
  assert ours == theirs


def test_smollm2_is_asked_in_the_same_way(tmp_path):
  source = packages.package("smollm2.gguf")
  ours, theirs = prompts(source, export(source, tmp_path / "out", "llama"))
  assert ours == theirs
