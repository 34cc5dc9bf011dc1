# SPDX-License-Identifier: Apache-2.0
"""Uploads a staged folder to the Hugging Face hub."""

import os
import pathlib
import re

from filax.hub.staging import MARK

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_repo(repo: str) -> str:
  """The name of a repository. Raises ValueError for anything but ORG/NAME."""
  if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
    raise ValueError(f"--repo={repo} cannot be used. Set it to ORG/NAME.")
  return repo


def upload_staged(folder: pathlib.Path, repo: str, private: bool) -> str:
  """Uploads a folder; returns the address of the commit.

  HF_ENDPOINT and HF_TOKEN are those of huggingface_hub. Raises ValueError without the package, and
  OSError if the hub refuses.
  """
  try:
    import huggingface_hub
  except ImportError:
    raise ValueError("filax push --yes needs huggingface_hub: pip install 'filax[hub]'.") from None
  from huggingface_hub.errors import HfHubHTTPError

  api = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
  try:
    api.create_repo(repo, private=private, exist_ok=True)
    commit = api.upload_folder(
      repo_id=repo,
      folder_path=folder,
      ignore_patterns=[MARK],
      commit_message="Model, config and card by filax push",
    )
  except (HfHubHTTPError, OSError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise OSError(f"{repo} could not be uploaded: {reason}") from error
  return str(commit.commit_url)
