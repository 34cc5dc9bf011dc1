# SPDX-License-Identifier: Apache-2.0
"""The documentation site: `make docs` builds it into build/docs."""

import importlib.metadata
import os
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).parent
os.environ["JAX_PLATFORMS"] = "cpu"  # Shapes need no device.
os.chdir(DOCS.parent)  # From where commands and configs look.
sys.path.insert(0, str(DOCS.parent))

project = "FiLax"
author = "the authors of FiLax"
copyright = "the authors of FiLax, Apache-2.0"
release = importlib.metadata.version("filax")
version = release

extensions = [
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx_copybutton",
  "docs.generators.page_links",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["generators"]
highlight_language = "none"
smartquotes = False  # Quotes in texts are often those of a setting.

html_theme = "furo"
html_title = "FiLax"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_default_options = {
  "members": True,
  "member-order": "bysource",
  "ignore-module-all": True,  # A name is documented where it is defined.
}
autodoc_inherit_docstrings = False  # Those of flax are not ours.
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False

OURS = ("filax", "data_pipelines")


def write_pages(app):
  """Writes the pages that are made from the code."""
  del app
  from docs.generators import api_pages, command_pages, settings_page, stage_cards

  folder = DOCS / "generated"
  stage_cards.write_stage_cards(folder / "recipes")
  command_pages.write_command_page(folder / "commands.md")
  settings_page.write_settings_page(folder / "settings.md")
  api_pages.write_api_pages(folder / "api")


def drop_absent_pages(app, docname, source):
  """Takes optional pages that do not exist out of the index."""
  del app
  if docname == "index":
    lines = source[0].splitlines()
    kept = [line for line in lines if not line.endswith("*") or any(DOCS.glob(f"{line}.md"))]
    source[0] = "\n".join(kept)


def convert_docstring(app, what, name, obj, options, lines):
  """Rewrites a docstring, which is plain text, for Sphinx."""
  del app, what, name, options
  from docs.generators import docstrings

  title = getattr(obj, "__name__", "")
  if lines and title and lines[0].startswith(f"{title}("):  # What dataclasses write themselves.
    lines[:] = []
  lines[:] = docstrings.as_restructured_text(lines)


def shorten_signature(app, what, name, obj, options, signature, returns):
  """Leaves out the two arguments that flax gives every module."""
  del app, what, name, obj, options
  if signature:
    signature = re.sub(r"(, )?parent: .*?name: str \| None = None", "", signature)
  return signature, returns


def skip_foreign_member(app, what, name, obj, skip, options):
  """True for what flax and the standard library add to a class."""
  del app, what, name, options
  module = getattr(obj, "__module__", None)
  is_foreign = isinstance(module, str) and not module.startswith(OURS)
  text = getattr(obj, "__doc__", None) or ""
  if is_foreign or text.startswith("Alias for field number"):
    return True
  return skip


def check_imports(app, error):
  """Raises RuntimeError if a page needed PyTorch."""
  del app
  if error is None and "torch" in sys.modules:
    raise RuntimeError("The documentation imported torch: a module imports it outside a function.")


def setup(app):
  """Connects the steps above to the build."""
  app.connect("builder-inited", write_pages)
  app.connect("source-read", drop_absent_pages)
  app.connect("autodoc-process-docstring", convert_docstring)
  app.connect("autodoc-process-signature", shorten_signature)
  app.connect("autodoc-skip-member", skip_foreign_member)
  app.connect("build-finished", check_imports)
