# SPDX-License-Identifier: Apache-2.0
"""Names of the same tensors in files of different libraries.

A scheme is a list of prefixes: canonical -> file. With scheme A, for example, "llm.norm.weight" is
"language_model.model.norm.weight". In both directions the longest matching prefix is used. A folder
is read with the scheme that explains most of the required names.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class NamingScheme:
  """Prefixes of tensor names in a family of files.

  `pairs` of (canonical prefix, prefix in the file); `spare`: tensors in such files that are not
  used.
  """

  name: str
  pairs: tuple[tuple[str, str], ...]
  spare: tuple[tuple[str, str], ...] = ()  # (pattern of a name in the file, why it is not used)

  def file_name(self, canonical: str) -> str | None:
    """The name in the file; None if it has no such part."""
    return _swap_prefix(canonical, self.pairs)

  def canonical(self, file_name: str) -> str | None:
    """The canonical name of a tensor; None if no part has it."""
    return _swap_prefix(file_name, [(theirs, ours) for ours, theirs in self.pairs])

  def spare_reason(self, file_name: str) -> str | None:
    """Why `file_name` is not used; None if it is not spare."""
    for pattern, reason in self.spare:
      if re.fullmatch(pattern, file_name):
        return reason
    return None


def _swap_prefix(name: str, pairs: Sequence[tuple[str, str]]) -> str | None:
  """The name with its longest prefix among `pairs` replaced.

  It is None if no prefix matches.
  """
  longest = -1
  swapped = None
  for old, new in pairs:
    if name.startswith(old) and len(old) > longest:
      longest = len(old)
      swapped = new + name[len(old) :]
  return swapped


_FUSION = ("merger.", "model.scene_merger.")
_BUFFER = (r".*\.rotary_emb\.inv_freq", "rotary frequencies are computed")


def _llava_scheme(name, encoder, projector, newline, llm, head):
  return NamingScheme(
    name,
    (
      ("encoder.", encoder),
      ("projector.", projector),
      ("projector.image_newline", newline),
      ("llm.", llm),
      ("llm.lm_head.", head),
      _FUSION,
    ),
    (_BUFFER,),
  )


A = _llava_scheme(  # The hub; transformers <= 4.51; read by every version.
  "A",
  "vision_tower.vision_model.",
  "multi_modal_projector.",
  "image_newline",
  "language_model.model.",
  "language_model.lm_head.",
)
B = _llava_scheme(  # Module names of transformers 4.52 to 5.5.
  "B",
  "model.vision_tower.vision_model.",
  "model.multi_modal_projector.",
  "model.image_newline",
  "model.language_model.",
  "lm_head.",
)
C = _llava_scheme(  # Module names of transformers >= 5.6.
  "C",
  "model.vision_tower.",
  "model.multi_modal_projector.",
  "model.image_newline",
  "model.language_model.",
  "lm_head.",
)
D = _llava_scheme(  # Files of save_pretrained in transformers >= 5.6.
  "D",
  "vision_tower.",
  "multi_modal_projector.",
  "image_newline",
  "language_model.model.",
  "language_model.lm_head.",
)
E = NamingScheme(
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
LANGUAGE_MODEL = NamingScheme(
  "language_model", (("llm.", "model."), ("llm.lm_head.", "lm_head.")), (_BUFFER,)
)
LANGUAGE_MODEL_BARE = NamingScheme(  # A model without a head, such as Qwen2Model.
  "language_model-bare", (("llm.", ""), ("llm.lm_head.", "lm_head.")), (_BUFFER,)
)
SIGLIP = NamingScheme(
  "siglip",
  (("encoder.", "vision_model."),),
  ((r"text_model\..*", "the text tower"), (r"logit_(scale|bias)", "the contrastive head")),
)
SIGLIP_FLAT = NamingScheme("siglip-flat", (("encoder.", ""),), SIGLIP.spare)
UMT = NamingScheme(  # The file that VideoChat-Flash's training starts from.
  "umt",
  (("encoder.", "encoder."), ("encoder.vision_layernorm.", "encoder.norm.")),
  ((r"(?!encoder\.).*", "not of the vision tower"),),
)
TOWER = NamingScheme("tower", (("encoder.", ""),))  # Names without a prefix.
FUSION = NamingScheme("fusion", (("merger.", ""),))
PROJECTOR = NamingScheme(
  "mm_projector",
  (  # Output of LLaVA's first stage.
    ("projector.linear_1.", "model.mm_projector.0."),
    ("projector.linear_2.", "model.mm_projector.2."),
    ("projector.image_newline", "model.image_newline"),
  ),
)
PROJECTOR_BARE = NamingScheme(
  "mm_projector-bare",
  (
    ("projector.linear_1.", "mm_projector.0."),
    ("projector.linear_2.", "mm_projector.2."),
    ("projector.image_newline", "image_newline"),
  ),
)


def flash_scheme(encoder: str) -> NamingScheme:
  """VideoChat-Flash's names; the tower's prefix depends on the encoder."""
  tower = {"umt": "encoder.", "siglip": "vision_model."}.get(encoder, "")
  return NamingScheme(
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


FLASH_PROJECTOR = NamingScheme(
  "flash-mm_projector",
  (
    ("projector.linear_1.", "model.mm_projector.mlp.0."),
    ("projector.linear_2.", "model.mm_projector.mlp.2."),
  ),
)
FLASH_PROJECTOR_BARE = NamingScheme(
  "flash-mm_projector-bare",
  (("projector.linear_1.", "mm_projector.mlp.0."), ("projector.linear_2.", "mm_projector.mlp.2.")),
)

_ALL = (  # In order of preference.
  LANGUAGE_MODEL,
  SIGLIP,
  A,
  B,
  C,
  D,
  E,
  flash_scheme("umt"),
  flash_scheme("internvideo2"),
  flash_scheme("siglip"),
  UMT,
  PROJECTOR,
  PROJECTOR_BARE,
  FLASH_PROJECTOR,
  FLASH_PROJECTOR_BARE,
  FUSION,
  TOWER,
  SIGLIP_FLAT,
  LANGUAGE_MODEL_BARE,
)
SCHEMES = {scheme.name: scheme for scheme in _ALL}


def detect_scheme(names: Iterable[str], wanted: Iterable[str]) -> NamingScheme:
  """The naming scheme of a file.

  Selects the scheme by which `names` of the file cover most canonical names in `wanted`. Ties are
  broken by the number of explained names in the file, then by longer prefixes (so that a whole
  model is not taken for an llm), then by order. Raises ValueError if no scheme explains any name.
  """
  names = list(names)
  wanted = set(wanted)
  scores = {name: _score(scheme, names, wanted) for name, scheme in SCHEMES.items()}
  best = max(scores, key=lambda name: scores[name])
  if not scores[best][0]:
    raise ValueError(
      f"None of the known naming schemes ({', '.join(SCHEMES)}) fits the tensors of this file, "
      f"such as {', '.join(sorted(names)[:3])}."
    )
  return SCHEMES[best]


def _score(
  scheme: NamingScheme,
  names: Sequence[str],
  wanted: set[str],
) -> tuple[int, int, int]:
  """(wanted names, names, letters of prefixes) that a scheme explains."""
  canonical = {scheme.canonical(name) for name in names}
  explained = canonical - {None}
  letters = 0
  for name in names:
    letters += max(
      (len(prefix) for _, prefix in scheme.pairs if name.startswith(prefix)), default=0
    )
  return len(explained & wanted), len(explained), letters
