# SPDX-License-Identifier: Apache-2.0
"""The entry point of lmms-eval."""


def model_manifests():
  """The models that this package adds to lmms-eval."""
  from lmms_eval.models.registry_v2 import ModelManifest

  return [ModelManifest(model_id="filax", simple_class_path="filax_lmms_eval.model.FilaxModel")]
