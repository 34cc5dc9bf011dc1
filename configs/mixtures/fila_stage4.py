# SPDX-License-Identifier: Apache-2.0
"""FiLA-Video stage 4: LLaVA-Video-178K, 38 parts.

Folders and files are named as on the hub; the numbers are those of VideoChat-Flash's copies,
1,395,547 together. The paper counts 1.6 million samples; which further ones it took is unknown. The
paper's own LongVideo was never published: `filax data synthesize` makes such data.
"""

from filax.configs.mixtures import llava_video

PARTS = llava_video.as_published()
