# SPDX-License-Identifier: Apache-2.0
"""Published numbers of questions, lengths of answers and licences of seven sets."""

import benchmark_reading as reading
import pytest

from filax.evals.registry import find_benchmark, find_protocol

QUESTIONS = dict(
  egoschema=500,
  egoschema_full=5031,
  nextqa=8564,
  nextqa_val=4996,
  perceptiontest=19_140,
  perceptiontest_test=11_528,
  lvbench=1549,
  charades_sta=3720,
  tempcompass=5536,
  cinepile=4941,
)
CHANCE = dict(egoschema=0.2, nextqa=0.2, perceptiontest=1 / 3, lvbench=0.25, tempcompass=0.4424)
NEW_TOKENS = dict(egoschema=16, nextqa=1024, perceptiontest=1024, lvbench=16, charades_sta=50)
# Their licences let pages show questions: MIT and CC-BY 4.0.
SHOWN = {"nextqa", "nextqa_val", "perceptiontest", "perceptiontest_test"}


@pytest.mark.parametrize("name", QUESTIONS)
def test_number_of_questions(name):
  assert find_benchmark(name).questions == QUESTIONS[name]


@pytest.mark.parametrize("name", CHANCE)
def test_chance(name):
  assert find_benchmark(name).chance == pytest.approx(CHANCE[name], abs=1e-4)


@pytest.mark.parametrize("name", NEW_TOKENS)
def test_every_protocol_has_the_published_length_of_answers(name):
  protocols = find_benchmark(name).protocols.values()
  assert {protocol.max_new_tokens for protocol in protocols} == {NEW_TOKENS[name]}


@pytest.mark.parametrize("name", QUESTIONS)
def test_lmms_eval_is_the_protocol_of_other_families(name):
  benchmark = find_benchmark(name)
  assert reading.default_protocol(benchmark) == "lmms-eval"
  assert find_protocol(benchmark, "", "fila")[0] == "lmms-eval"


@pytest.mark.parametrize("name", ["perceptiontest", "lvbench", "charades_sta"])
def test_vcf_models_have_their_own_protocol(name):
  assert find_protocol(find_benchmark(name), "", "vcf")[0] == "vcf"


@pytest.mark.parametrize("name", QUESTIONS)
def test_pages_show_only_what_licences_allow(name):
  assert find_benchmark(name).shows_text == (name in SHOWN)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_protocol_names_the_code_that_it_follows(name):
  for protocol in find_benchmark(name).protocols.values():
    assert protocol.version
