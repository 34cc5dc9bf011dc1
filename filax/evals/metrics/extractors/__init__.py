# SPDX-License-Identifier: Apache-2.0
"""Published rules that read the letter of an option out of a generated text.

Each rule has a file. Every rule is a function of (text, options) that returns a letter, or None
where its publisher finds nothing or draws a letter by chance. The rules keep the accidents of the
published code, since the published numbers have them too; filax.evals.metrics.letters is the
careful reader. All of them run in a time that is linear in the text.
"""
