# SPDX-License-Identifier: Apache-2.0
"""Files of tests that import an optional package are skipped where it is not installed."""

import pytest

OPTIONAL = ("gradio", "selenium", "torch", "transformers")


class Module(pytest.Module):
  """A file of tests, skipped as a whole if an optional package that it imports is missing."""

  def collect(self):
    try:
      return super().collect()
    except self.CollectError as error:
      cause = error.__cause__
      if isinstance(cause, ModuleNotFoundError) and cause.name in OPTIONAL:
        pytest.skip(f"{self.nodeid} needs {cause.name}", allow_module_level=True)
      raise
