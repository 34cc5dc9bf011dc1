# SPDX-License-Identifier: Apache-2.0
"""The head of a released video LLM is that of transformers."""

import json

import hf_llava
import numpy as np
import pytest
import torch
import transformers

from filax.convert import ConversionError, import_inputs, tensor_plan
from filax.convert.tensor_plan import EMBEDDING, HEAD

pytestmark = pytest.mark.slow

FLAGS = (True, False, None)  # None: config.json does not say.


def our_head(folder):
  """The numbers of the head; None if the folder is refused."""
  try:
    sources, model = import_inputs.open_inputs(import_inputs.ImportRequest("out", folder))
    plan = tensor_plan.plan_tensors(model, sources, roles=tuple(import_inputs.PARTS[:3]))
  except (ValueError, ConversionError) as error:
    assert "--set llm.tied=" in str(error)
    return None
  return plan.tensors[EMBEDDING if model["llm"].get("tied") else HEAD].read_all()


def their_head(folder):
  """The numbers of the head; None if it is drawn at random."""
  model, info = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
    folder, output_loading_info=True
  )
  if "lm_head.weight" in info["missing_keys"]:
    return None
  return model.lm_head.weight.detach().numpy()


@pytest.mark.parametrize("head", ["none", "same", "other"])
@pytest.mark.parametrize("of_text", FLAGS)
def test_the_head_is_that_of_transformers(head, of_text, tmp_path):
  theirs = hf_llava.tiny()
  with torch.no_grad():
    if head == "same":
      theirs.lm_head.weight.copy_(theirs.model.language_model.embed_tokens.weight)
  if head == "none":
    theirs.config.text_config.tie_word_embeddings = True  # So that it is not written.
  folder = hf_llava.write(tmp_path / "hub", theirs, "B")
  config = json.loads((folder / "config.json").read_text())
  for of_whole in FLAGS:
    for section, flag in ((config, of_whole), (config["text_config"], of_text)):
      section.pop("tie_word_embeddings", None)
      section |= {} if flag is None else dict(tie_word_embeddings=flag)
    (folder / "config.json").write_text(json.dumps(config))
    ours = our_head(folder)
    expected = their_head(folder)
    case = f"whole {of_whole}, text {of_text}, head {head}"
    if expected is None:  # Without a word about it, the head is the embedding.
      assert ours is None or (of_whole, of_text) == (None, None), case
    elif head == "other" and ours is None:  # A contradiction, for which --set decides.
      assert of_whole or of_text, case
    else:
      assert ours is not None, case
      np.testing.assert_array_equal(ours, expected, err_msg=case)
