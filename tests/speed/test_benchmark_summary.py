# SPDX-License-Identifier: Apache-2.0
"""Tables of the benchmarks, from samples that are written down here."""

import pytest

from benchmarks import summary, table

SHAPE = dict(context=64)


def samples(*seconds, amount=10):
  return [
    dict(seconds=second, amount=amount, cpu_seconds=second, peak_mib=5.0, others=0.1)
    for second in seconds
  ]


def a_case(**sides):
  records = {name.replace("_", "."): dict(samples=made) for name, made in sides.items()}
  return dict(
    row="decode",
    what="decoding",
    unit="tokens/s",
    axis="context",
    shape=SHAPE,
    commit="abc",
    load=[0.5, 1.5],
    skipped={},
    sides=records,
  )


def test_the_ratio_is_the_median_over_rounds():
  case = a_case(filax=samples(1.0, 4.0, 1.0), torch=samples(2.0, 8.0, 1.0))
  result = summary.summarise_case(case)
  assert result["ratio"] == 0.5
  assert result["ratio_range"] == [0.5, 1.0]


def test_the_best_peer_counts():
  case = a_case(filax=samples(1.0), torch=samples(3.0), torch_compile=samples(2.0))
  result = summary.summarise_case(case)
  assert result["best_peer"] == "torch.compile"
  assert result["ratio"] == 0.5


def test_rates_compare_different_amounts_of_work():
  case = a_case(filax=samples(1.0, amount=10), torch=samples(1.0, amount=20))
  assert summary.summarise_case(case)["ratio"] == 2.0


def test_a_slow_row_stays_in_the_table():
  case = a_case(filax=samples(9.0), torch=samples(1.0))
  assert "**9.00**" in table.rate_table([case])


def test_a_failed_side_is_listed_with_its_error():
  case = a_case(filax=samples(1.0), torch=[])
  case["sides"]["torch"]["error"] = "no answer in 5 s"
  page = "\n".join(table.left_out_lines([case]))
  assert "torch failed: no answer in 5 s (decode context=64)" in page


def test_a_skipped_side_is_listed_with_the_command_that_installs_it():
  case = a_case(filax=samples(1.0))
  case["skipped"] = {"faiss": "not installed: pip install faiss-cpu"}
  page = "\n".join(table.left_out_lines([case]))
  assert "pip install faiss-cpu" in page


def test_versions_are_those_of_the_cases():
  """A folder may hold cases from before an update of a peer."""
  machine = dict(processor="x", cores=2, memory_gib=1, system="y", python="3", packages={})
  cases = [a_case() | dict(packages=dict(torch=version)) for version in ("2.11", "2.12")]
  assert "torch 2.11 and 2.12." in table.machine_lines(machine, cases)


@pytest.mark.parametrize(
  ("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (0.01234, "0.0123"), (0, "0")]
)
def test_numbers_have_three_digits(value, text):
  assert table.number_text(value) == text
