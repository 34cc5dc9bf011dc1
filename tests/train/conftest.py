# SPDX-License-Identifier: Apache-2.0
"""Runs of the same program compile once a session, as restarts of a user with a cache do."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def compilation_cache(tmp_path_factory):
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
  yield
  jax.config.update("jax_compilation_cache_dir", before)
