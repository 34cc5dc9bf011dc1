# SPDX-License-Identifier: Apache-2.0
"""Paths of documents in a text become links to their pages.

READMEs name each other by path, which is right in the repository. On the site the page that
includes the file is meant.
"""

import pathlib
import posixpath
import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

DOCS = pathlib.Path(__file__).parents[1]
INCLUDED = re.compile(r"^```\{include\} \.\./(\S+)", re.MULTILINE)
RECIPE = re.compile(r"configs/((?:fila|vcf)_stage\d)\.py")


def page_of_each_file() -> dict[str, str]:
  """Path of a document in the repository -> name of its page."""
  pages = {}
  for path in DOCS.glob("*.md"):
    pages[f"docs/{path.name}"] = path.stem
    for file in INCLUDED.findall(path.read_text()):
      pages[file] = path.stem
  return pages


def find_page(text: str, pages: dict[str, str]) -> str:
  """The page of a path; "" if it has none."""
  recipe = RECIPE.fullmatch(text)
  if recipe:
    return f"generated/recipes/{recipe[1]}"
  return pages.get(text, "")


def source_of(page: str, pages: dict[str, str]) -> str:
  """The file that a page includes, or else its own."""
  files = [file for file, name in pages.items() if name == page]
  return max(files, key=lambda file: not file.startswith("docs/"), default=f"docs/{page}.md")


class LinkPages(SphinxTransform):
  """Turns paths of documents into links, in code and in links alike."""

  default_priority = 5  # Before Sphinx looks for the targets.

  def apply(self, **options) -> None:
    del options
    pages = page_of_each_file()
    for node in list(self.document.findall(nodes.literal)):
      page = find_page(node.astext(), pages)
      is_link = isinstance(node.parent, nodes.reference | addnodes.pending_xref)
      if page and page != self.env.docname and not is_link:
        node.replace_self(self.page_link(page, node.deepcopy()))
    folder = posixpath.dirname(source_of(self.env.docname, pages))
    for node in list(self.document.findall(addnodes.pending_xref)):
      if node.get("reftype") == "myst":
        self.mend(node, folder, pages)

  def page_link(self, page: str, content: nodes.Node) -> addnodes.pending_xref:
    """A link to a page."""
    link = addnodes.pending_xref(
      "",
      refdoc=self.env.docname,
      refdomain="std",
      reftype="doc",
      reftarget=f"/{page}",
      refexplicit=True,
      refwarn=True,
    )
    link += content
    return link

  def section_link(self, page: str, anchor: str, content: nodes.Node) -> addnodes.pending_xref:
    """A link to a section of a page.

    MyST resolves it, and warns of an unknown section.
    """
    link = addnodes.pending_xref(
      "",
      refdoc=self.env.docname,
      refdomain="doc",
      reftype="myst",
      reftarget=page,
      reftargetid=anchor,
      refexplicit=True,
    )
    link += content
    return link

  def mend(self, node: addnodes.pending_xref, folder: str, pages: dict[str, str]) -> None:
    """Points a link to the page of its target.

    folder: where the file with the link lies.
    """
    path, _, anchor = node["reftarget"].partition("#")
    anchor = anchor or node.get("reftargetid") or ""
    if path.startswith("/"):  # A document outside of docs/, without its suffix.
      path = f"{posixpath.relpath(path, DOCS)}.md"
    page = find_page(posixpath.normpath(posixpath.join(folder, path)), pages)
    if not page:
      return
    content = nodes.inline("", node.astext())
    link = self.section_link(page, anchor, content) if anchor else self.page_link(page, content)
    node.replace_self(link)


def setup(app: Sphinx) -> dict[str, bool]:
  """Registers the transform."""
  app.add_transform(LinkPages)
  return dict(parallel_read_safe=True)
