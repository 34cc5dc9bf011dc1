# SPDX-License-Identifier: Apache-2.0
"""The work of reading a video against the cells of VideoChat-Flash's Table 1, and by hand."""

import json

import jax
import pytest

from filax.cli import main as cli
from filax.configs import vcf_stage3
from filax.models import components
from filax.plan.prefill import PrefillCosts

TABLE_1 = {  # Tokens a frame -> TFLOPs at these frames.
  196: {64: 455.1, 256: 2946.3, 1000: 28_707.7, 10_000: 2_368_810},  # LongVILA
  144: {64: 316.8, 256: 1870.1, 1000: 16_583.7, 10_000: 1_289_490},  # LongVA
}


def reader(**changes):
  model = vcf_stage3.get_config().model.to_dict()
  model["llm"] |= changes
  return PrefillCosts(components.build_video_lm(model))


@pytest.fixture(scope="module")
def plain():
  return reader()


@pytest.mark.parametrize("per_frame", TABLE_1)
def test_table_1(plain, per_frame):
  for frames, printed in TABLE_1[per_frame].items():
    assert plain.video_work(frames, per_frame).paper / 1e12 == pytest.approx(printed, rel=0.016)


def test_videochat_flash_at_64_frames(plain):
  assert round(plain.video_work(64).paper / 1e12, 1) == 29.6  # Without dropout, as released.


def test_the_standard_count_by_hand(plain):
  work = plain.video_work(64)
  layers = 28 * (3584 * (3584 * 2 + 2 * 512) + 3 * 3584 * 18_944)
  head = 3584 * 152_064  # Once a prefill: the token after the last position is what is asked for.
  assert work.tokens == 1024
  assert work.llm == pytest.approx(2 * layers * 1024 + 2 * 28 * 3584 * 1024**2 + 2 * head, rel=1e-9)
  merged = [784, 392, 196, 98]
  assert work.merger == pytest.approx(16 * sum(2 * (p / 2) ** 2 * 64 for p in merged), rel=0.01)
  assert work.total == work.encoder + work.merger + work.llm


def test_dropout_saves_what_its_layers_save(plain):
  dropped = reader(dropout="uniform0_attention")
  share = dropped.video_work(1000).llm / plain.video_work(1000).llm
  assert 4 / 28 + 14 / 28 * 0.75 + 10 / 28 * 0.25 - 0.1 < share < 0.61


def test_the_command(capsys):
  platforms = jax.config.jax_platforms
  try:
    assert not cli.main(
      ["flops", "--config", "configs/vcf_stage3.py", "--frames", "64,256", "--json"]
    )
  finally:
    jax.config.update("jax_platforms", platforms)
  rows = json.loads(capsys.readouterr().out)
  assert [row["tokens"] for row in rows] == [1024, 4096]
