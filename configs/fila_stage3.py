# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video stage 3, image-only instruction tuning: the single-image data of LLaVA-OneVision.

  filax train --config configs/fila_stage3.py --workdir runs/fila_stage3 \\
    --config.init_from=runs/fila_stage2
  filax train --config configs/fila_stage3.py:debug --workdir runs/debug  # A minute on a laptop.

Table 4 of the paper prints one column for stages 2 and 3: same rates, batch 64, one epoch.
"""

from filax.configs import fila_stage2
from filax.configs.mixtures.fila_stage3 import PARTS


def get_config(arg=None):
  return fila_stage2.config(arg, PARTS, (("data/onevision_single_image.json", "all"),))
