#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiler flags of long runs, in one place. The other scripts source this; what you have set stays,
# because the last of two equal flags counts.
# shellcheck disable=SC2034  # Whoever sources this file uses them.

TPU_FLAGS=(
  # Collectives run beside arithmetic that does not wait for them: parameters of the next layer are
  # gathered, and gradients of the last one scattered, while a layer computes.
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  --xla_tpu_overlap_compute_collective_tc=true
  # Attention's blocks of 512 queries by 1,024 keys need more fast memory than the default gives.
  --xla_tpu_scoped_vmem_limit_kib=98304
)
GPU_FLAGS=(
  # The same overlap, which is off by default on GPUs.
  --xla_gpu_enable_latency_hiding_scheduler=true
  # Gathers and scatters of parameters as few large ones instead of many small ones.
  --xla_gpu_all_gather_combine_threshold_bytes=1073741824
  --xla_gpu_reduce_scatter_combine_threshold_bytes=1073741824
)
