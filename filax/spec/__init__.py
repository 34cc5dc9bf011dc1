# SPDX-License-Identifier: Apache-2.0
"""The contract between data, model and evaluation. NumPy only."""

from filax.spec.batch import BATCH as BATCH
from filax.spec.batch import PADDING as PADDING
from filax.spec.batch import TEXT as TEXT
from filax.spec.batch import RowShape as RowShape
from filax.spec.batch import VisualLayout as VisualLayout
