# SPDX-License-Identifier: Apache-2.0
"""The meanings of settings that have no comment in configs/common.py.

They stand within a group on one line, or only some configs set them.
"""

from collections.abc import Mapping

_SAMPLING = {
  "name": "How the number of frames is chosen (configs/README.md).",
  "frames": "The number of frames with uniform, else the most; 0 = no upper limit.",
  "phase": "Which frames are taken (configs/README.md).",
  "low": "The fewest frames, with dynamic_fps and dense_sparse; 64 if it is not set.",
  "multiple": "The number is rounded down to a multiple of this; not set = the size of a group.",
  "fps": "Frames a second, with dynamic_fps and first; 1 if it is not set.",
  "short": "With dense_sparse: shorter videos are dense. In seconds; 60 if it is not set.",
  "dense": "With dense_sparse: frames a second of short videos; 15 if it is not set.",
  "sparse": "With dense_sparse: frames a second of long videos; 1 if it is not set.",
}
_SELECTOR = {
  "name": "How frames are put into groups: a file of filax/models/selectors.",
  "size": "Frames of a group.",
  "scenes": "Number of groups, with kmeans and bsm.",
  "history": "With kmeans: which frames before its representative a scene has.",
  "seeds": "With kmeans: how the first centres are chosen.",
  "steps": "With kmeans: rounds of K-Means.",
}
_REMAT = "What a layer keeps for the backward pass (filax/train/README.md); auto = FiLax chooses."
MEANINGS = {
  "epochs": "Passes through the data, if steps is 0.",
  "data.images.mode": "How pictures become square (configs/README.md).",
  "data.images.tiles": "The most tiles of a picture, with anyres and anyres_nopad.",
  "infer.time_prompt": 'Replaces config.data.time_prompt in answers; "" or not set = the same.',
  "lora.ranks": "Which kernels get adapters, and of which rank; the first match counts.",
  "mesh.data": "Devices that divide the rows of a batch; each has all parameters.",
  "mesh.fsdp": "Devices that divide the rows of a batch and the parameters.",
  "mesh.seq": "Devices that divide each row.",
  "mesh.tensor": "Devices that divide heads and MLPs.",
  "model.encode_chunk": "Clips that are encoded at a time; 0 or not set = all.",
  "model.encoder.name": "A file of filax/models/encoders, or module:Class.",
  "model.encoder.variant": "The size: a row of VARIANTS in this file.",
  "model.encoder.remat": _REMAT,
  "model.merger.name": "How the frames of a group are merged: a file of filax/models/mergers.",
  "model.merger.tokens": "Tokens that are left of a frame, with tome, pixel_shuffle, resampler and "
  "uneven.",
  "model.merger.heads": "Heads of the attention in resampler; with tome, those of the encoder.",
  "model.projector.name": "A file of filax/models/projectors.",
  "model.projector.newline": "Where a newline vector stands: after the video, each line of tokens, "
  "each group, or nowhere.",
  "model.projector.pool_side": "Tokens are pooled by this factor along each side; 1 = not at all.",
  "model.llm.name": "A file of filax/models/llms.",
  "model.llm.variant": "The size: a row of VARIANTS in this file.",
  "model.llm.remat": _REMAT,
  "model.llm.attention": "The attention kernel; auto = the fastest for the device.",
  "model.llm.sequence": "How attention is computed when config.mesh.seq divides a row.",
  "model.llm.theta": "The base of the rotary positions; not set = that of the variant.",
  "model.llm.positions": "The context for which the model was trained; not set = the variant's.",
  "model.llm.dropout": "Visual dropout (docs/long_video.md); not set = off.",
  "model.llm.dropout_positions": "Positions after a drop: counted anew, or kept.",
  "model.llm.dropout_queries": "Which tokens choose in training: those before every supervised "
  "token, or those before answers.",
}
for _part in ("data", "infer"):
  MEANINGS |= {f"{_part}.sampling.{key}": text for key, text in _SAMPLING.items()}
for _part in ("model", "infer"):
  MEANINGS |= {f"{_part}.selector.{key}": text for key, text in _SELECTOR.items()}

# Settings that are checked elsewhere than in filax.settings.TABLE -> what they may be.
OTHER_WORDS: Mapping[str, str] = {
  "model.llm.dropout": "a preset (below), or layer:kind:ratio,...",
}
