# SPDX-License-Identifier: Apache-2.0
"""filax demo: corpus, tokenizer, both stages of training, measurement and report, on a laptop."""
