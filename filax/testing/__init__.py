# SPDX-License-Identifier: Apache-2.0
"""Tiny models, corpora and media for tests, of FiLax and of components written elsewhere.

  clips           videos and pictures whose frames show their number, and broken files
  manifests       records and manifest files
  tiny_tokenizer  a byte-level tokenizer with Qwen's control tokens
  corpora         a corpus of every kind of sample, and a pipeline over it
  packed_rows     random rows of videos, pictures and words for any model
  row_source      random rows for the training loop, without files
  random_parameters  drawn parameters of any model
  tiny_checkpoint random tiny models on disk, as training leaves them
  evaluation_results  invented results of evaluations
  qwen2_folder    random tiny Qwen2 folders in the form of transformers
  interrupted     writers that are killed, folders that are read-only, disks that are full

Nothing here needs a network, a download, a test framework or more than a CPU.
"""
