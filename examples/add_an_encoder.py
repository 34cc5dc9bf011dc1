# SPDX-License-Identifier: Apache-2.0
"""An encoder of your own, in a file of your own, trained without touching FiLax.

  python examples/add_an_encoder.py runs/patches

A config names it by "module:Class"; the module must be importable wherever the model is built: here
it lies beside the script. Loading the checkpoint runs its code, so it is allowed by name.
"""

import argparse

from flax import linen as nn

import filax
from filax.configs import common
from filax.models import roles
from filax.models.layers import PatchEmbed, VisionMLP, check_size, standardise


class Patches(nn.Module, roles.PatchEncoder):
  """An encoder that puts patches through an MLP, without attention."""

  size: int = 42
  patch: int = 14
  width: int = 32
  depth: int = 1
  clip: int = 1
  remat: str = "none"

  @nn.compact
  def __call__(self, frames):
    pictures = frames.reshape(-1, *frames.shape[2:])
    check_size(pictures, self.size)
    x = PatchEmbed(self.width, self.patch)(standardise(pictures, 0.5, 0.5, "float32"))
    x = x + VisionMLP(2 * self.width)(x)
    return x.reshape(*frames.shape[:2], *x.shape[1:])


DIMS = (  # Path of a parameter -> its dimensions: how it lies on a mesh.
  (r"patch_embedding/kernel$", "- - - width"),
  (r"fc1/kernel$", "width mlp"),
  (r"fc1/bias$", "mlp"),
  (r"fc2/kernel$", "mlp width"),
  (r"(patch_embedding|fc2)/bias$", "-"),
)

if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("workdir", help="where checkpoints and metrics go")
  options = parser.parse_args()
  config = common.shrink(common.base())
  config.model.encoder = dict(name="add_an_encoder:Patches", width=48)
  config.steps = 2
  filax.run_training(config, options.workdir)
  session = filax.load(options.workdir, components=["add_an_encoder"])
  print(f"{options.workdir} sees through {type(session.model.encoder).__name__}.")
