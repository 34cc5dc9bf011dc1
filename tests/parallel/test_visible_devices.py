# SPDX-License-Identifier: Apache-2.0
"""Which GPUs of its node a process uses."""

import jax
import processes
import pytest

from filax.parallel import distributed


@pytest.mark.slow
def test_the_only_process_of_a_slurm_node_uses_all_gpus():
  """jax alone gives it the GPU of its number on the node, the first."""
  for code, out, errors in processes.run("visible_devices.py", joined=processes.joined_by_slurm):
    assert code == 0, errors
    assert out == "2 all\n"


@pytest.mark.parametrize(
  "environment, devices",
  [
    (dict(SLURM_NTASKS="16", SLURM_STEP_NUM_NODES="2"), "3"),  # Eight processes a node.
    (dict(SLURM_NTASKS="2", SLURM_STEP_NUM_NODES="2"), "all"),
    (dict(SLURM_NTASKS="2", SLURM_STEP_NUM_NODES="2", JAX_LOCAL_DEVICE_IDS="3"), "3"),
    (dict(SLURM_NTASKS="1", SLURM_STEP_NUM_NODES="1", FILAX_COORDINATOR="host:1"), "all"),
    ({}, "3"),  # What another cluster chooses.
  ],
)
def test_what_jax_chose_stays_where_processes_share_a_node(monkeypatch, environment, devices):
  for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "JAX_LOCAL_DEVICE_IDS", "FILAX_COORDINATOR"):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  before = jax.config.values["jax_cuda_visible_devices"]
  try:
    with distributed._devices_of_node():
      jax.config.update("jax_cuda_visible_devices", "3")
    assert jax.config.values["jax_cuda_visible_devices"] == devices
  finally:
    jax.config.update("jax_cuda_visible_devices", before)


def test_a_process_that_srun_did_not_start_is_not_joined(monkeypatch):
  """The script of a job knows how many tasks there would be."""
  for name, value in dict(SLURM_JOB_ID="7", SLURM_PROCID="0", SLURM_NTASKS="4").items():
    monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match=r"srun did not start this process .SLURM_STEP_NODELIST is"):
    distributed.start()
