# SPDX-License-Identifier: Apache-2.0
"""The forms that `filax convert to` writes: names, config.json, what lies beside the weights."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from filax.convert import config_out, file_names
from filax.convert.config_out import Vocabulary

WHOLE = ("encoder", "projector", "llm")


@dataclasses.dataclass(frozen=True)
class Format:
  """One form. `fusion`: where the merger goes, aside (in a file of its own), inside or none."""

  name: str
  text: str
  scheme: Callable[[Mapping[str, Any]], file_names.Scheme]  # Of config.model.
  roles: tuple[str, ...]
  components: Mapping[str, tuple[str, ...]]  # Role -> those that the form can hold.
  config: Callable[..., dict[str, Any]]  # (config, dtype, vocabulary, placeholders) -> config.json
  family: str = ""  # As hf_config and verify call it.
  fusion: str = "aside"
  extra: tuple[str, ...] = ()  # Roles whose EXTRA tensors the reader wants.
  processors: bool = False
  files: tuple[tuple[str, str], ...] = ()  # (template, name in the folder)

  def check(self, model: Mapping[str, Any]) -> None:
    """Raises ValueError if this form cannot hold the model."""
    if absent := [role for role in self.components if role not in model]:
      raise ValueError(
        f"--format {self.name} needs a whole model, but this checkpoint has no "
        f"{' and no '.join(absent)}."
      )
    for role, names in self.components.items():
      if (name := model[role]["name"]) not in names:
        raise ValueError(
          f"--format {self.name} cannot hold the {role} {name}, only {' or '.join(names)}. Choose "
          f"another --format: {', '.join(FORMATS)}."
        )


def _remote(config, dtype, vocabulary: Vocabulary | None, places) -> dict[str, Any]:
  name = "modeling_fila.FilaForConditionalGeneration"
  return config_out.llava_onevision(config, dtype, vocabulary, places) | dict(
    architectures=[name.split(".")[1]],
    auto_map=dict(AutoModelForImageTextToText=name, AutoModel=name),
  )


_LLAVA = dict(encoder=("siglip",), merger=("weighted", "mean"), projector=("mlp",), llm=("qwen2",))
_FLASH = dict(encoder=("umt", "internvideo2"), merger=("tome",), projector=("mlp",), llm=("qwen2",))
_RUN = (("run_llava.py", "run_torch.py"), ("fila_video.py", "fila_video.py"))
_ALL = (
  Format(
    "hf",
    "LlavaOnevisionForConditionalGeneration of transformers, vLLM and others; fusion aside",
    lambda model: file_names.A,
    WHOLE,
    _LLAVA,
    config_out.llava_onevision,
    "llava_onevision",
    extra=("encoder", "projector"),
    processors=True,
    files=_RUN,
  ),
  Format(
    "hf-remote",
    "the same with a modelling file that fuses frames (trust_remote_code)",
    lambda model: file_names.B,
    WHOLE,
    _LLAVA,
    _remote,
    "llava_onevision",
    fusion="inside",
    extra=("encoder", "projector"),
    processors=True,
    files=(*_RUN, ("modeling_fila.py", "modeling_fila.py")),
  ),
  Format(
    "llava",
    "LLaVA-NeXT's training code",
    lambda model: file_names.E,
    WHOLE,
    _LLAVA,
    lambda config, dtype, vocabulary, places: config_out.llava(config, dtype, vocabulary),
    "llava",
    extra=("encoder",),
    files=_RUN,
  ),
  Format(
    "videochat-flash",
    "VideoChat-Flash's released names and config",
    lambda model: file_names.flash(model["encoder"]["name"]),
    WHOLE,
    _FLASH,
    lambda config, dtype, vocabulary, places: config_out.flash(config, dtype, vocabulary),
    "videochat-flash",
    fusion="none",
    files=(
      ("run_flash.py", "run_torch.py"),
      ("fila_video.py", "fila_video.py"),
      ("flash_towers.py", "flash_towers.py"),
    ),
  ),
  Format(
    "qwen2",
    "the language model alone: Qwen2ForCausalLM",
    lambda model: file_names.QWEN2,
    ("llm",),
    dict(llm=("qwen2",)),
    lambda config, dtype, vocabulary, places: config_out.qwen2_alone(config, dtype, vocabulary),
    "qwen2",
    fusion="none",
    files=(("run_qwen2.py", "run_torch.py"),),
  ),
)
FORMATS = {form.name: form for form in _ALL}
