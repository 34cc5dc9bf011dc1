# SPDX-License-Identifier: Apache-2.0
"""VideoChat-Flash folders as they are released, in small, made of the torch twins."""

import json

import hf_llava
from safetensors.torch import save_file
import torch
from torch import nn
import transformers
from twins import internvideo2 as twin_internvideo2
from twins import umt as twin_umt

from filax.models import components

TOKENS = 4  # A frame, after merging.
ENCODERS = {"umt": twin_umt.UMT, "internvideo2": twin_internvideo2.InternVideo2}
PREFIX = {"umt": "encoder.", "internvideo2": ""}


def tiny(name):
  fields = dict(components.build("encoder", dict(name=name, variant="tiny")).__dict__)
  keys = (
    "size",
    "width",
    "depth",
    "heads",
    "mlp",
    "patch",
    *(("trained",) if name == "umt" else ("clip",)),
  )
  return twin_umt.random_(ENCODERS[name](**{k: fields[k] for k in keys})), fields["clip"]


def released(folder, name, tied=False, dtype=torch.float32, vocab=160, positions=512):
  """A folder as it is released, in small: (tower, projector, llm)."""
  tower, _ = tiny(name)
  projector = twin_umt.random_(nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64)))
  llm = hf_llava.random_(
    transformers.Qwen2ForCausalLM(
      transformers.Qwen2Config(
        vocab_size=vocab,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        rope_parameters=dict(rope_type="default", rope_theta=1e6),
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
      )
    )
  ).eval()
  state = {
    f"model.vision_tower.vision_tower.{PREFIX[name]}{k}": v for k, v in tower.state_dict().items()
  }
  state |= {f"model.mm_projector.mlp.{k}": v for k, v in projector.state_dict().items()}
  state |= {k: v for k, v in llm.state_dict().items() if not (tied and k == "lm_head.weight")}
  folder.mkdir()
  save_file(
    {k: v.detach().to(dtype).contiguous() for k, v in state.items()},
    folder / "model.safetensors",
    {"format": "pt"},
  )
  (folder / "config.json").write_text(
    json.dumps(
      dict(
        model_type="videochat_flash_qwen",
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocab,
        rope_theta=1e6,
        rope_scaling=None,
        rms_norm_eps=1e-6,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
        hidden_act="silu",
        mm_vision_tower={"umt": "umt-large"}.get(name, name),
        mm_hidden_size=32,
        mm_projector_type=f"tome{TOKENS}_mlp_hd64",
        mm_local_num_frames=4,
        mm_patch_merge_type="spatial_nopad",
        mm_newline_position="nothing",
      )
    )
  )
  return tower, projector, llm
