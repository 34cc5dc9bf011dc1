# SPDX-License-Identifier: Apache-2.0
"""GGUF files of llama.cpp: tensors, sizes and tokenizer of a language model, in HF's terms.

The library `gguf` reads the container and dequantises (pip install 'filax[gguf]').
"""
