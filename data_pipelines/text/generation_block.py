# SPDX-License-Identifier: Apache-2.0
"""The block {% generation %} of chat templates, for Jinja."""

from jinja2 import ext, nodes, parser


class GenerationBlock(ext.Extension):
  """{% generation %}…{% endgeneration %} around an answer: it writes its body.

  transformers finds the tokens of answers by these blocks.
  """

  tags = frozenset({"generation"})  # type: ignore[assignment]  # Jinja only reads it.

  def parse(self, parser: parser.Parser) -> nodes.Node:
    """The body of a block, with a scope of its own."""
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return nodes.Scope(body, lineno=line)
