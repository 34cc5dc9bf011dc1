# SPDX-License-Identifier: Apache-2.0
"""The formats of `filax convert to`.

A format decides the names of the tensors, the config.json, and the files beside the weights.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from filax.convert import config_out, file_names, llm_config_out
from filax.convert.llm_config_out import ExportVocabulary

WHOLE = ("encoder", "projector", "llm")


@dataclasses.dataclass(frozen=True)
class ExportFormat:
  """An export format.

  `fusion` is the place of the merger's weights: aside (in a separate file), inside or none.
  """

  name: str
  text: str
  scheme: Callable[[Mapping[str, Any]], file_names.NamingScheme]  # config.model -> scheme.
  roles: tuple[str, ...]
  components: Mapping[str, tuple[str, ...]]  # Role -> supported components.
  config: Callable[..., dict[str, Any]]  # (config, dtype, vocabulary, placeholders) -> config.json
  family: str = ""  # The name in config_in and verify.
  fusion: str = "aside"
  extra: tuple[str, ...] = ()  # Roles whose EXTRA tensors the reader needs.
  processors: bool = False
  files: tuple[tuple[str, str], ...] = ()  # (file of export_kit, name in the folder)

  def check_model(self, model: Mapping[str, Any]) -> None:
    """Raises ValueError if this format cannot hold the model."""
    absent = [role for role in self.components if role not in model]
    if absent:
      raise ValueError(
        f"--format {self.name} needs a whole model, but this checkpoint has no "
        f"{' and no '.join(absent)}."
      )
    for role, allowed in self.components.items():
      name = model[role]["name"]
      if name not in allowed:
        raise ValueError(
          f"--format {self.name} cannot hold the {role} {name}, only {' or '.join(allowed)}. "
          f"Choose another --format: {', '.join(FORMATS)}."
        )


def _hf_scheme(model: Mapping[str, Any]) -> file_names.NamingScheme:
  return file_names.A


def _hf_remote_scheme(model: Mapping[str, Any]) -> file_names.NamingScheme:
  return file_names.B


def _llava_scheme(model: Mapping[str, Any]) -> file_names.NamingScheme:
  return file_names.E


def _flash_scheme(model: Mapping[str, Any]) -> file_names.NamingScheme:
  return file_names.flash_scheme(model["encoder"]["name"])


def _llm_scheme(model: Mapping[str, Any]) -> file_names.NamingScheme:
  return file_names.LANGUAGE_MODEL


def _hf_remote_config(
  config,
  dtype,
  vocabulary: ExportVocabulary | None,
  placeholders,
) -> dict[str, Any]:
  """config.json of `hf` that names the modelling file beside it."""
  document = config_out.llava_onevision_config(config, dtype, vocabulary, placeholders)
  document["architectures"] = ["FilaForConditionalGeneration"]
  class_path = "modeling_fila.FilaForConditionalGeneration"
  document["auto_map"] = dict(AutoModelForImageTextToText=class_path, AutoModel=class_path)
  return document


def _llava_config(config, dtype, vocabulary, placeholders) -> dict[str, Any]:
  return config_out.llava_config(config, dtype, vocabulary)


def _flash_config(config, dtype, vocabulary, placeholders) -> dict[str, Any]:
  return config_out.flash_config(config, dtype, vocabulary)


def _llm_config(config, dtype, vocabulary, placeholders) -> dict[str, Any]:
  return llm_config_out.llm_alone_config(config, dtype, vocabulary)


def _llm_format(name: str, architecture: str) -> ExportFormat:
  """The format of a language model alone."""
  return ExportFormat(
    name,
    f"the language model alone: {architecture}",
    _llm_scheme,
    ("llm",),
    dict(llm=(name,)),
    _llm_config,
    name,
    fusion="none",
    files=(("run_llm.py", "run_torch.py"),),
  )


_LLMS = tuple(llm_config_out.FAMILIES)
_LLAVA = dict(encoder=("siglip",), merger=("weighted", "mean"), projector=("mlp",), llm=("qwen2",))
_HF = _LLAVA | dict(llm=_LLMS)
_FLASH = dict(encoder=("umt", "internvideo2"), merger=("tome",), projector=("mlp",), llm=("qwen2",))
_PROMPT = (("fila_video.py", "fila_video.py"), ("prompts.py", "prompts.py"))
_RUN = (("run_llava.py", "run_torch.py"), *_PROMPT)
_ALL = (
  ExportFormat(
    "hf",
    "LlavaOnevisionForConditionalGeneration of transformers, vLLM and others; fusion aside",
    _hf_scheme,
    WHOLE,
    _HF,
    config_out.llava_onevision_config,
    "llava_onevision",
    extra=("encoder", "projector"),
    processors=True,
    files=_RUN,
  ),
  ExportFormat(
    "hf-remote",
    "the same with a modelling file that fuses frames (trust_remote_code)",
    _hf_remote_scheme,
    WHOLE,
    _HF,
    _hf_remote_config,
    "llava_onevision",
    fusion="inside",
    extra=("encoder", "projector"),
    processors=True,
    files=(*_RUN, ("modeling_fila.py", "modeling_fila.py")),
  ),
  ExportFormat(
    "llava",
    "LLaVA-NeXT's training code",
    _llava_scheme,
    WHOLE,
    _LLAVA,
    _llava_config,
    "llava",
    extra=("encoder",),
    files=_RUN,
  ),
  ExportFormat(
    "videochat-flash",
    "VideoChat-Flash's released names and config",
    _flash_scheme,
    WHOLE,
    _FLASH,
    _flash_config,
    "videochat-flash",
    fusion="none",
    files=(
      ("run_flash.py", "run_torch.py"),
      *_PROMPT,
      ("flash_towers.py", "flash_towers.py"),
    ),
  ),
  _llm_format("qwen2", "Qwen2ForCausalLM"),
  _llm_format("qwen3", "Qwen3ForCausalLM"),
  _llm_format("llama", "LlamaForCausalLM"),
)
FORMATS = {export_format.name: export_format for export_format in _ALL}
