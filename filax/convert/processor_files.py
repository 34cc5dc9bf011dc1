# SPDX-License-Identifier: Apache-2.0
"""The small JSON files of an exported folder.

Processors, chat template, generation and tokenizer settings.
"""

from collections.abc import Mapping
import math
from typing import Any

from data_pipelines.text.chat_template import ChatTemplate
from filax.convert import export_template
from filax.convert.config_out import build_towers, image_grids
from filax.convert.llm_config_out import ExportVocabulary

_CONTENTS_AS_TEXT = (  # Every message as a text, with its pictures first.
  "{%- set plain = namespace(messages=[]) -%}{%- for message in messages -%}"
  "{%- set text = namespace(value='') -%}"
  "{%- if message['content'] is string -%}{%- set text.value = message['content'] -%}{%- else -%}"
  "{%- for part in message['content'] -%}{%- if part['type'] in ('image', 'video') -%}"
  "{%- set text.value = text.value + '<' + part['type'] + '>\n' -%}{%- endif -%}{%- endfor -%}"
  "{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}"
  "{%- set text.value = text.value + part['text'] -%}{%- endif -%}{%- endfor -%}{%- endif -%}"
  "{%- set plain.messages = plain.messages + [dict(message, content=text.value)] -%}"
  "{%- endfor -%}{%- set messages = plain.messages -%}"
)


def processor_files(
  config: Mapping[str, Any], chat: ChatTemplate | None = None
) -> dict[str, dict[str, Any]]:
  """File name -> processor settings for transformers 4 and 5.

  chat: the tokenizer's own chat template.
  """
  tower, _ = build_towers(config)
  pictures = dict(
    do_resize=True,
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    do_convert_rgb=True,
    resample=3,
    size=dict(height=tower.size, width=tower.size),
    image_mean=[0.5] * 3,
    image_std=[0.5] * 3,
    processor_class="LlavaOnevisionProcessor",
  )
  images = pictures | dict(
    image_processor_type="LlavaOnevisionImageProcessor",
    do_pad=True,
    image_grid_pinpoints=image_grids(tower.size),
  )
  videos = pictures | dict(video_processor_type="LlavaOnevisionVideoProcessor")
  processor = dict(
    processor_class="LlavaOnevisionProcessor",
    num_image_tokens=math.prod(tower.grid),
    vision_feature_select_strategy="full",
    image_token="<image>",
    video_token="<video>",
    vision_aspect_ratio="anyres_max_9",
  )
  return {
    "preprocessor_config.json": images,
    "video_preprocessor_config.json": videos,
    "processor_config.json": processor,
    "chat_template.json": dict(chat_template=processor_template(config, chat)),
  }


def processor_template(config: Mapping[str, Any], chat: ChatTemplate | None) -> str:
  """The template by which a processor writes pictures and words.

  For config.data.template="chat" it is that of the tokenizer: contents become texts first.
  """
  if config.get("data", {}).get("template") != "chat" or chat is None:
    return export_template.chatml(config)
  return _CONTENTS_AS_TEXT + export_template.own_template(config, chat)


def generation_config(vocabulary: ExportVocabulary) -> dict[str, Any]:
  """generation_config.json: greedy, as evaluations are run."""
  return dict(
    bos_token_id=vocabulary.start_token,
    pad_token_id=vocabulary.pad_token,
    eos_token_id=list(vocabulary.stop),
    do_sample=False,
    transformers_version="4.46.0",
  )


def tokenizer_config(config: Mapping[str, Any], vocabulary: ExportVocabulary) -> dict[str, Any]:
  """A tokenizer_config.json for a tokenizer.json that came without one."""
  name_of_id = {id: name for name, id in vocabulary.controls.items()}
  stop = vocabulary.stop[0] if vocabulary.stop else vocabulary.pad
  return dict(
    tokenizer_class="PreTrainedTokenizerFast",
    clean_up_tokenization_spaces=False,
    eos_token=name_of_id.get(stop),
    pad_token=name_of_id.get(vocabulary.pad),
    padding_side="right",
    model_max_length=10**9,
    chat_template=export_template.chatml(config),
  )
