# SPDX-License-Identifier: Apache-2.0
"""Folders as others write them: other files, other names, quantised weights."""

import json

import numpy as np
import pytest
from safetensors import numpy as library
import tokenizers as hf

from data_pipelines.text import tokenizers
from filax.convert import (
  config_in,
  export_documents,
  import_inputs,
  llm_config_out,
  processor_files,
  tensor_plan,
)
from filax.models import components
from filax.testing import qwen2_folder

SIGLIP = dict(model_type="siglip_vision_model", hidden_size=8)
QWEN2 = dict(model_type="qwen2")
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)


def planned(folder):
  """(config.model, the plan) of a language model."""
  sources, model = import_inputs.open_inputs(import_inputs.ImportRequest("out", folder))
  return model, tensor_plan.plan_tensors(model, sources, roles=("llm",))


def test_other_files_beside_the_whole_model_are_not_read(tmp_path):
  """As adapters and optimisers beside it, which transformers does not read, either."""
  folder = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  other = {name: x + 1 for name, x in qwen2_folder.qwen2_tensors().items()}
  library.save_file(other, folder / "adapter_model.safetensors")
  _, plan = planned(folder)
  assert {tensor.file.name for tensor in plan.tensors.values()} == {"model.safetensors"}
  name = "llm.norm.weight"
  expected = qwen2_folder.qwen2_tensors()["model.norm.weight"]
  np.testing.assert_array_equal(plan.tensors[name].read_all(), expected)


def test_the_whole_model_comes_before_an_index(tmp_path):
  """As in transformers; the index of the torch files often stays beside one safetensors file."""
  folder = qwen2_folder.write_qwen2_folder(tmp_path / "hub")
  other = {name: x + 1 for name, x in qwen2_folder.qwen2_tensors().items()}
  library.save_file(other, folder / "old.safetensors")
  weight_map = dict.fromkeys(other, "old.safetensors")
  for index in ("pytorch_model.bin.index.json", "model.safetensors.index.json"):
    (folder / index).write_text(json.dumps(dict(weight_map=weight_map)))
    _, plan = planned(folder)
    assert {tensor.file.name for tensor in plan.tensors.values()} == {"model.safetensors"}


def test_a_model_without_a_head_is_read_under_its_own_names(tmp_path):
  """Qwen2Model.save_pretrained writes no prefix; embedding models are released so."""
  tensors = qwen2_folder.qwen2_tensors()
  del tensors["lm_head.weight"]
  bare = {name.removeprefix("model."): x for name, x in tensors.items()}
  folder = qwen2_folder.write_qwen2_folder(tmp_path / "hub", bare, tie_word_embeddings=True)
  model, plan = planned(folder)
  assert model["llm"]["tied"] and list(plan.schemes.values()) == ["language_model-bare"]
  assert not plan.unused


@pytest.mark.parametrize(
  "config, sentence",
  [
    (dict(model_type="qwen2", quantization_config=dict(quant_method="fp8")), "of method 'fp8'"),
    (
      dict(
        model_type="llava_onevision",
        text_config=dict(model_type="qwen2", quantization_config=dict(quant_method="awq")),
        vision_config=SIGLIP,
      ),
      "of method 'awq'",
    ),
    (
      QWEN2 | dict(rope_parameters=dict(rope_type="default", rope_theta=1e6), rope_scaling=YARN),
      "rope_parameters=.*and another rope_scaling=",
    ),
    (
      QWEN2 | dict(rope_scaling=YARN, original_max_position_embeddings=32),
      "original_max_position_embeddings=32 outside of its rope settings, which have 64",
    ),
    (
      dict(model_type="llava_onevision", text_config=dict(model_type="gemma2"), vision_config={}),
      "text_config has model_type 'gemma2'",
    ),
    (
      dict(
        model_type="llava_onevision",
        text_config=QWEN2,
        vision_config=dict(model_type="siglip2_vision_model"),
      ),
      "model_type is 'siglip2_vision_model'",
    ),
    (
      dict(model_type="llava_qwen", mm_vision_tower="openai/clip-vit-large-patch14-336"),
      "mm_vision_tower is 'openai/clip-vit-large-patch14-336'",
    ),
    (dict(model_type="llava_qwen3", mm_vision_tower="siglip"), "model_type is 'llava_qwen3'"),
    (dict(model_type="llava_llama", mm_vision_tower="clip"), "model_type is 'llava_llama'"),
    (
      dict(model_type="llava", text_config=dict(model_type="llama"), vision_config=SIGLIP),
      "model_type 'llava'. Known families",
    ),
  ],
)
def test_what_is_not_implemented_is_refused_by_name(config, sentence):
  with pytest.raises(ValueError, match=sentence):
    config_in.architecture(json.loads(json.dumps(config)))


def test_a_siglip_that_names_no_sizes_has_those_of_transformers():
  """google/siglip-base-patch16-224 is released so."""
  config = dict(model_type="siglip", vision_config=dict(model_type="siglip_vision_model"))
  encoder = config_in.architecture(config)["encoder"]
  expected = dict(size=224, patch=16, width=768, heads=12, mlp=3072, depth=11)
  assert {key: encoder[key] for key in expected} == expected


NEXT = dict(mm_vision_tower="google/siglip-so400m-patch14-384", mm_patch_merge_type="spatial_unpad")
FLASH = dict(model_type="videochat_flash_qwen", mm_vision_tower="umt-hd-large")


@pytest.mark.parametrize(
  "source_config, images",
  [
    (FLASH, dict(mode="anyres_nopad", tiles=36)),
    (dict(model_type="llava_onevision"), dict(mode="anyres", tiles=9)),
    (NEXT | dict(image_aspect_ratio="anyres_max_4"), dict(mode="anyres", tiles=4)),
    (NEXT | dict(image_aspect_ratio="pad"), dict(mode="pad", tiles=1)),
    (dict(mm_vision_tower="", image_aspect_ratio="anyres_max_4"), dict(mode="squash", tiles=1)),
  ],
)
def test_pictures_are_shown_as_to_the_released_model(source_config, images):
  config = dict(model=dict(selector=dict(name="uniform")), infer=dict(lengths=(64,)))
  config_in.set_answer_settings(config, source_config)
  assert config["data"]["images"] == images


@pytest.mark.parametrize(
  "source_config, frames, time_prompt",
  [
    (NEXT, 32, None),
    (NEXT | dict(force_sample=False, add_time_instruction=False), 32, None),
    (NEXT | dict(force_sample=True, add_time_instruction=True), 64, "llava"),
    (FLASH, 512, "vcf_released"),
  ],
)
def test_frames_are_sampled_as_by_the_released_model(source_config, frames, time_prompt):
  config = dict(model=dict(selector=dict(name="uniform")), infer=dict(lengths=(64,)))
  config_in.set_answer_settings(config, source_config)
  assert config["infer"]["sampling"]["frames"] == frames
  assert config["infer"].get("time_prompt") == time_prompt


def test_a_vocabulary_without_padding_exports_none(tmp_path):
  """Llama 3 has none, and its first id is a word."""
  words = hf.Tokenizer(hf.models.WordLevel({"!": 0, "hi": 1}))
  words.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
  words.save(str(tmp_path / "tokenizer.json"))
  settings = dict(bos_token="<|begin_of_text|>", chat_template="{{ messages[0]['content'] }}")
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
  vocabulary = export_documents.read_vocabulary(tokenizers.load_tokenizer(tmp_path))
  llm = components.build("llm", dict(name="llama", variant="tiny"))
  document = llm_config_out.llm_config("llama", llm, "float32", vocabulary)
  generation = processor_files.generation_config(vocabulary)
  for config in (document, generation):
    assert (config["bos_token_id"], config["pad_token_id"]) == (2, None)
