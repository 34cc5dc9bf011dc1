# SPDX-License-Identifier: Apache-2.0
"""Arrays from the bytes of .npy and .npz files."""

from concurrent.futures import ThreadPoolExecutor
import io

import numpy as np
import pytest

from data_pipelines import npy_content


def test_headers_are_read_one_after_another():
  """A reader waits while another thread is in NumPy's parser."""
  out = io.BytesIO()
  np.save(out, np.arange(3))
  with ThreadPoolExecutor(1) as pool:
    with npy_content.HEADERS:
      reading = pool.submit(npy_content.read_npy, out.getvalue())
      with pytest.raises(TimeoutError):
        reading.result(timeout=0.1)
    assert reading.result(timeout=60).tolist() == [0, 1, 2]


def test_arrays_of_an_npz_have_their_names():
  out = io.BytesIO()
  np.savez(out, table=np.ones(2), times=np.zeros(1))
  arrays = npy_content.read_npz(out.getvalue())
  assert {name: array.shape for name, array in arrays.items()} == dict(table=(2,), times=(1,))


def test_objects_are_refused():
  out = io.BytesIO()
  np.save(out, np.array([{}], object))
  with pytest.raises(ValueError, match="allow_pickle"):
    npy_content.read_npy(out.getvalue())
