# SPDX-License-Identifier: Apache-2.0
"""benchmarks.same: programs that differ in names alone are equal, and a difference is named."""

import json

import pytest

from benchmarks import same, same_store
from benchmarks.same_programs import is_train_step, normal_hlo, normal_stablehlo
from benchmarks.same_record import Recorder, file_digests, log_records, without_seconds

HLO = """HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias) }

FileNames
1 "/home/me/filax/step.py"

%region_0.5 (a.6: f32[], /*index=1*/b.7: f32[]) -> f32[] {
  %a.6 = f32[] parameter(0), metadata={op_name="params[\\'llm\\']{x}" source_line=3}
  %b.7 = f32[] parameter(1)
  ROOT %add.8 = f32[] add(%a.6, %b.7), metadata={op_name="add" deduplicated_name={a}}
}

ENTRY %main.9 (state_x.1: f32[4]) -> f32[] {
  %state_x.1 = f32[4]{0} parameter(0), sharding={replicated}, stack_frame_id=7
  %zero = f32[] constant(0)
  ROOT %reduce = f32[] reduce(%state_x.1, %zero), dimensions={0}, to_apply=%region_0.5
}
"""
NORMAL_HLO = """HloModule, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias) }

%0 (f32[], /*index=1*/f32[]) -> f32[] {
  %1 = f32[] parameter(0)
  %2 = f32[] parameter(1)
  ROOT %3 = f32[] add(%1, %2)
}

ENTRY %4 (f32[4]) -> f32[] {
  %5 = f32[4]{0} parameter(0), sharding={replicated}
  %6 = f32[] constant(0)
  ROOT %7 = f32[] reduce(%5, %6), dimensions={0}, to_apply=%0
}
"""
STABLEHLO = """#loc1 = loc("step.py":3:1)
module @jit_step attributes {mhlo.num_partitions = 4 : i32} {
  sdy.mesh @mesh = <["data"=4]>
  func.func public @main(%arg0: tensor<4xf32>) -> (tensor<4xf32> {jax.result_info = "state.x"}) {
    %0 = call @silu(%arg0) : (tensor<4xf32>) -> tensor<4xf32> loc(#loc1)
    %1 = stablehlo.custom_call @tpu_custom_call(%0) : (tensor<4xf32>) -> tensor<4xf32>
    return %1 : tensor<4xf32>
  }
  func.func private @silu(%arg0: tensor<4xf32>) -> tensor<4xf32> {
    return %arg0 : tensor<4xf32>
  }
}
"""


def test_hlo_loses_names_and_source_positions():
  assert normal_hlo(HLO) == NORMAL_HLO


def test_hlo_of_renamed_functions_is_equal():
  renamed = HLO.replace("region_0.5", "closed_call.1").replace("state_x.1", "train_state.4")
  assert renamed != HLO
  assert normal_hlo(renamed.replace("jit_step", "jit_update")) == normal_hlo(HLO)


@pytest.mark.parametrize(
  "old, new",
  [
    ("add(%a.6, %b.7)", "multiply(%a.6, %b.7)"),
    ("add(%a.6, %b.7)", "add(%b.7, %a.6)"),
    ("constant(0)", "constant(1)"),
    ("f32[4]{0} parameter", "bf16[4]{0} parameter"),
    ("sharding={replicated}", "sharding={devices=[2]<=[2]}"),
  ],
)
def test_hlo_keeps_what_is_computed(old, new):
  assert old in HLO
  assert normal_hlo(HLO.replace(old, new)) != normal_hlo(HLO)


def test_only_a_program_that_reuses_its_arguments_is_a_train_step():
  assert is_train_step(HLO)
  assert not is_train_step(HLO.replace("input_output_alias", "other"))


def test_stablehlo_of_renamed_functions_is_equal():
  normal = normal_stablehlo(STABLEHLO)
  renamed = STABLEHLO.replace("silu", "swish").replace("jit_step", "jit_update")
  renamed = renamed.replace("state.x", "params.x").replace("step.py", "update.py")
  assert normal_stablehlo(renamed) == normal
  assert "call @0(" in normal and "private @0(" in normal
  assert "@tpu_custom_call" in normal and "@mesh" in normal and "loc(" not in normal


def test_measured_numbers_are_left_out_of_log_records(tmp_path):
  path = tmp_path / "metrics.jsonl"
  lines = [dict(step=step, loss=0.1 + 0.2, mfu=step, eta_seconds=3.5) for step in (1, 2, 3)]
  path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
  second = '{"step": 2, "loss": 0.30000000000000004, "mfu": "*", "eta_seconds": "*"}'
  assert list(log_records(path, first=2)) == [second, second.replace('"step": 2', '"step": 3')]


def test_seconds_are_left_out_of_answers():
  one = dict(answer="ring", seconds=dict(load=1.5), tokens=[dict(id=3, total_seconds=2)])
  text = without_seconds(json.dumps(one) + "\n" + json.dumps(dict(answer="bar")) + "\n")
  assert "ring" in text and "bar" in text and "second" not in text


def test_file_digests_choose_by_ending(tmp_path):
  (tmp_path / "a.py").write_text("print()")
  (tmp_path / "b.json").write_text("{}")
  assert file_digests(tmp_path, only=".py").endswith(" 7 a.py\n")
  assert file_digests(tmp_path, without=".py").endswith(" 2 b.json\n")


@pytest.fixture
def recordings(tmp_path):
  """Two equal recordings of a loss, a program and a Python file."""
  pair = []
  for name in ("before", "after"):
    store = same_store.Recording(tmp_path / name)
    store.add_fact("losses/toy", "step 1\nstep 2\n")
    store.add_fact("hlo/toy", "%0 = add\n")
    store.add_fact("code/toy", "print(1)\n")
    (tmp_path / name / same.CONDITIONS).write_text("{}")
    pair.append(store)
  return pair


def compared(recordings) -> int:
  return same.main(["compare", *(str(store.folder) for store in recordings)])


def test_equal_recordings(recordings, capsys):
  assert compared(recordings) == 0
  assert capsys.readouterr().out.endswith("EQUAL\n")


def test_the_first_line_that_differs_is_printed(recordings, capsys):
  recordings[1].add_fact("losses/toy", "step 1\nstep 3\n")
  assert compared(recordings) == 1
  assert "losses/toy: line 2:\n    - step 2\n    + step 3\n" in capsys.readouterr().out


def test_a_fact_of_one_recording_alone_is_a_difference(recordings, capsys):
  recordings[0].add_fact("hlo/vcf", "%0 = add\n")
  assert compared(recordings) == 1
  assert f"hlo/vcf: only in {recordings[0].folder}" in capsys.readouterr().out


def test_different_python_files_are_only_noted(recordings, capsys):
  recordings[1].add_fact("code/toy", "print(2)\n")
  assert compared(recordings) == 0
  assert "code/toy: line 1" in capsys.readouterr().out


def test_a_part_that_one_recording_lacks_is_not_compared(recordings, capsys):
  recordings[1].forget("hlo")
  assert compared(recordings) == 0
  assert "hlo: not compared" in capsys.readouterr().out


def test_recordings_without_a_common_part_are_refused(recordings):
  for part in ("losses", "code"):
    recordings[0].forget(part)
  recordings[1].forget("hlo")
  with pytest.raises(ValueError, match="share no recorded part"):
    compared(recordings)


def test_a_new_recording_keeps_no_programs_of_an_earlier_one(recordings, monkeypatch):
  """They would be compared as if they were those of the new checkout."""
  monkeypatch.setattr(Recorder, "train", lambda recorder, with_programs: None)
  folder = recordings[0].folder
  assert same.main(["record", ".", str(folder), "--part", "losses"]) == 0
  assert list(recordings[0].digests()) == ["code/toy"]


def test_unknown_part_is_refused(tmp_path, capsys):
  with pytest.raises(SystemExit):
    same.main(["record", str(tmp_path), str(tmp_path / "out"), "--part", "loss"])
  assert "'loss' is not a part" in capsys.readouterr().err
