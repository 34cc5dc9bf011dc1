# SPDX-License-Identifier: Apache-2.0
"""What the same tensors are called in the files of different libraries and versions.

A scheme is a list of prefixes: canonical -> file. Both ways the longest one that fits wins. Which
one a folder uses is found by counting how many of the names that are needed it explains.
"""

from collections.abc import Iterable
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Scheme:
  """`pairs` of (canonical prefix, prefix in the file); `spare` is what else such files hold."""

  name: str
  pairs: tuple[tuple[str, str], ...]
  spare: tuple[tuple[str, str], ...] = ()

  def file_name(self, canonical: str) -> str | None:
    """The name in the file, or None if these files have no such part."""
    return _swap(canonical, self.pairs)

  def canonical(self, file_name: str) -> str | None:
    return _swap(file_name, tuple((theirs, ours) for ours, theirs in self.pairs))

  def unused(self, file_name: str) -> str | None:
    """Why these files may hold `file_name` though no part has it."""
    return next((why for p, why in self.spare if re.fullmatch(p, file_name)), None)


def _swap(name: str, pairs) -> str | None:
  fits = [(len(a), b + name[len(a) :]) for a, b in pairs if name.startswith(a)]
  return max(fits)[1] if fits else None


_FUSION = ("merger.", "model.scene_merger.")
_BUFFER = (r".*\.rotary_emb\.inv_freq", "rotary frequencies are computed")


def _one(name, encoder, projector, newline, llm, head, extra=()):
  return Scheme(
    name,
    (
      ("encoder.", encoder),
      ("projector.", projector),
      ("projector.image_newline", newline),
      ("llm.", llm),
      ("llm.lm_head.", head),
      _FUSION,
      *extra,
    ),
    (_BUFFER,),
  )


A = _one(  # The hub; transformers <= 4.51; read by every version.
  "A",
  "vision_tower.vision_model.",
  "multi_modal_projector.",
  "image_newline",
  "language_model.model.",
  "language_model.lm_head.",
)
B = _one(  # Module names of transformers 4.52 to 5.5.
  "B",
  "model.vision_tower.vision_model.",
  "model.multi_modal_projector.",
  "model.image_newline",
  "model.language_model.",
  "lm_head.",
)
C = _one(  # Module names of transformers >= 5.6.
  "C",
  "model.vision_tower.",
  "model.multi_modal_projector.",
  "model.image_newline",
  "model.language_model.",
  "lm_head.",
)
D = _one(  # What save_pretrained of transformers >= 5.6 writes.
  "D",
  "vision_tower.",
  "multi_modal_projector.",
  "image_newline",
  "language_model.model.",
  "language_model.lm_head.",
)
E = Scheme(
  "E",
  (  # LLaVA-NeXT's own training code.
    ("encoder.", "model.vision_tower.vision_tower.vision_model."),
    ("projector.linear_1.", "model.mm_projector.0."),
    ("projector.linear_2.", "model.mm_projector.2."),
    ("projector.image_newline", "model.image_newline"),
    ("llm.", "model."),
    ("llm.lm_head.", "lm_head."),
    _FUSION,
  ),
  (_BUFFER,),
)
QWEN2 = Scheme("qwen2", (("llm.", "model."), ("llm.lm_head.", "lm_head.")), (_BUFFER,))
SIGLIP = Scheme(
  "siglip",
  (("encoder.", "vision_model."),),
  ((r"text_model\..*", "the text tower"), (r"logit_(scale|bias)", "the contrastive head")),
)
SIGLIP_FLAT = Scheme("siglip-flat", (("encoder.", ""),), SIGLIP.spare)
UMT = Scheme(  # The file that VideoChat-Flash's training starts from.
  "umt",
  (("encoder.", "encoder."), ("encoder.vision_layernorm.", "encoder.norm.")),
  ((r"(?!encoder\.).*", "not of the vision tower"),),
)
TOWER = Scheme("tower", (("encoder.", ""),))  # Names as they are inside of the part.
FUSION = Scheme("fusion", (("merger.", ""),))
PROJECTOR = Scheme(
  "mm_projector",
  (  # What LLaVA's first stage leaves.
    ("projector.linear_1.", "model.mm_projector.0."),
    ("projector.linear_2.", "model.mm_projector.2."),
    ("projector.image_newline", "model.image_newline"),
  ),
)
PROJECTOR_BARE = Scheme(
  "mm_projector-bare",
  (
    ("projector.linear_1.", "mm_projector.0."),
    ("projector.linear_2.", "mm_projector.2."),
    ("projector.image_newline", "image_newline"),
  ),
)


def flash(encoder: str) -> Scheme:
  """VideoChat-Flash's names; the tower's prefix depends on the encoder."""
  tower = {"umt": "encoder.", "siglip": "vision_model."}.get(encoder, "")
  return Scheme(
    f"flash-{encoder}",
    (
      ("encoder.", f"model.vision_tower.vision_tower.{tower}"),
      ("projector.linear_1.", "model.mm_projector.mlp.0."),
      ("projector.linear_2.", "model.mm_projector.mlp.2."),
      ("llm.", "model."),
      ("llm.lm_head.", "lm_head."),
      _FUSION,
    ),
    (_BUFFER,),
  )


FLASH_PROJECTOR = Scheme(
  "flash-mm_projector",
  (
    ("projector.linear_1.", "model.mm_projector.mlp.0."),
    ("projector.linear_2.", "model.mm_projector.mlp.2."),
  ),
)
FLASH_PROJECTOR_BARE = Scheme(
  "flash-mm_projector-bare",
  (("projector.linear_1.", "mm_projector.mlp.0."), ("projector.linear_2.", "mm_projector.mlp.2.")),
)

SCHEMES = {
  s.name: s
  for s in (  # Of those that explain a file equally well the first is taken.
    QWEN2,
    SIGLIP,
    A,
    B,
    C,
    D,
    E,
    flash("umt"),
    flash("internvideo2"),
    flash("siglip"),
    UMT,
    PROJECTOR,
    PROJECTOR_BARE,
    FLASH_PROJECTOR,
    FLASH_PROJECTOR_BARE,
    FUSION,
    TOWER,
    SIGLIP_FLAT,
  )
}


def detect(names: Iterable[str], wanted: Iterable[str]) -> Scheme:
  """The scheme that explains most of `wanted` (canonical names) by `names` (in the file).

  Of equal ones that which explains more of the file, then by longer prefixes (a whole model is not
  taken for an llm), then the earlier. Raises ValueError if none explains anything.
  """
  names, wanted = list(names), set(wanted)

  def score(scheme: Scheme) -> tuple[int, int, int]:
    known = {scheme.canonical(name) for name in names}
    prefixes = [theirs for _, theirs in scheme.pairs]
    length = sum(max((len(p) for p in prefixes if name.startswith(p)), default=0) for name in names)
    return len(known & wanted), sum(name is not None for name in known), length

  best = max(SCHEMES.values(), key=score)
  if not score(best)[0]:
    raise ValueError(
      f"None of the known naming schemes ({', '.join(SCHEMES)}) fits the tensors of this file, "
      f"such as {', '.join(sorted(names)[:3])}."
    )
  return best
