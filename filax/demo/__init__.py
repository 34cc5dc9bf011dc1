# SPDX-License-Identifier: Apache-2.0
"""The demo: corpus, tokenizer, two training stages, evaluation and report."""
