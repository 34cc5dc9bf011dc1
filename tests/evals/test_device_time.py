# SPDX-License-Identifier: Apache-2.0
"""Seconds of the device: each counts once, and idle ones are those without a program."""

import jax.numpy as jnp
import pytest

from filax.evals.account import Account
from filax.evals.device_time import DeviceClock


@pytest.fixture
def clock():
  clock = DeviceClock()
  yield clock
  clock.stop_watching()


def test_a_program_that_waited_for_another_counts_from_its_turn(clock):
  clock.add_time("encode", 0.0, 4.0)
  clock.add_time("prefill", 3.0, 6.0)  # It was called while the encoder ran.
  clock.add_time("generate", 6.0, 7.0)
  assert clock.seconds() == dict(encode=4.0, prefill=2.0, generate=1.0)
  assert clock.busy_seconds() == 7.0


def test_time_between_programs_is_idle(clock):
  clock.add_time("encode", 1.0, 2.0)
  clock.add_time("encode", 5.0, 6.0)
  assert clock.busy_seconds() == 2.0
  assert Account(seconds=dict(total=8.0), busy=clock.busy_seconds()).idle_share == 0.75


def test_arrays_are_awaited_in_the_background(clock):
  clock.watch_arrays("encode", 0.0, jnp.ones(4) + 1)
  clock.wait_until_idle()
  assert set(clock.seconds()) == {"encode"} and clock.busy_seconds() > 0


def test_accounts_of_several_processes_are_added():
  first = Account(skipped=dict(a="x"), seconds=dict(decode=1.0, total=2.0), busy=1.0, finished=True)
  second = Account(bad_media=dict(m="y"), seconds=dict(total=2.0), busy=2.0, finished=True)
  total = Account.merged([first.to_json(), second.to_json()])
  assert total.skipped == dict(a="x") and total.bad_media == dict(m="y") and total.finished
  assert (total.seconds["decode"], total.seconds["total"]) == (
    1.0,
    4.0,
  ) and total.idle_share == 0.25
