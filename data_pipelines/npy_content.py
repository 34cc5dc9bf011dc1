# SPDX-License-Identifier: Apache-2.0
"""Arrays from the bytes of .npy and .npz files, safe in threads.

NumPy reads a header with Python's own parser. The parser of CPython 3.11 now and then fails when
threads parse at the same time ("AST constructor recursion depth mismatch", python/cpython#106905).
A good file would then look damaged. So headers are read one after another.
"""

import io
import threading

import numpy as np

HEADERS = threading.Lock()  # Held while a header is read.


def read_npy(content: bytes) -> np.ndarray:
  """The array of an .npy file.

  Raises ValueError for other content, also for pickled objects.
  """
  with HEADERS:
    return np.load(io.BytesIO(content), allow_pickle=False)


def read_npz(content: bytes) -> dict[str, np.ndarray]:
  """The arrays of an .npz file by name.

  Raises ValueError for other content, also for pickled objects.
  """
  with HEADERS, np.load(io.BytesIO(content), allow_pickle=False) as arrays:
    return dict(arrays)
