# SPDX-License-Identifier: Apache-2.0
"""Versions and frame rules of published evaluations, in words, for reports."""

LMMS_EVAL = "lmms-eval 0.7.3"
VIDEOCHAT_FLASH = "VideoChat-Flash 2f8e2f5"

ADAPTER_MAX_TOKENS = 1024  # The limit of lmms-eval's adapters if a task sets none.

LLAVA_FRAMES = (
  "32 frames from the first to the last, int(linspace(0, n - 1, 32)), repeated in shorter videos"
)
VIDEOCHAT_FLASH_FRAMES = "about 1 frame a second, 64 to 512, a multiple of 8, at the middles"

FILA_IS_SILENT = (
  "Paper silent: FiLA-Video names no prompt, harness version or split; its tables repeat "
  "LLaVA-OneVision's values, which lmms-eval made."
)
