# SPDX-License-Identifier: Apache-2.0
"""Places of results are tried before the work."""

import pytest

from filax.cli import main, outputs


@pytest.mark.parametrize("name", ["file/sub", "file", "/proc/1/x"])
def test_a_folder_that_cannot_be_written(tmp_path, name):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match=r"--out .* cannot be written"):
    outputs.check_folder(tmp_path / name)


def test_a_file_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  outputs.check_file(tmp_path / "new" / "sheet.png")
  assert (tmp_path / "new").is_dir()
  with pytest.raises(ValueError, match="is a folder"):
    outputs.check_file(tmp_path)
  with pytest.raises(ValueError, match=r"must end in \.png or \.svg"):
    outputs.check_file(tmp_path / "a.json", (".png", ".svg"))
  with pytest.raises(ValueError, match=r"--out .* cannot be written"):
    outputs.check_file(tmp_path / "file" / "a.png")


def test_a_check_of_data_refuses_its_output_first(tmp_path, capsys):
  (tmp_path / "out").write_text("")
  manifest = tmp_path / "not_there.json"
  assert main.main(["data", "check", str(manifest), "--out", str(tmp_path / "out")]) == 2
  assert "out cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
  "command",
  [
    "convert from --source hub --out",
    "convert to --checkpoint run --out",
    "evals --checkpoint run --manifest m.json --out",
    "study fila_table2 --workdir",
  ],
)
def test_results_are_not_written_to_a_folder_named_like_a_bucket(
  command, tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "hub").mkdir()
  assert main.main([*command.split(), "s3://bucket/x"]) == 2
  option = command.split()[-1]
  assert f"{option} s3://bucket/x is not on this machine" in capsys.readouterr().err
  assert not (tmp_path / "s3:").exists()


def test_an_export_of_a_bucket_says_to_copy_it(tmp_path, capsys):
  argv = ["convert", "to", "--checkpoint", "gs://bucket/run", "--out", str(tmp_path / "out")]
  assert main.main(argv) == 2
  assert "--checkpoint gs://bucket/run is not on this machine" in capsys.readouterr().err


def test_a_drawing_does_not_replace_its_numbers(tmp_path, capsys):
  argv = ["analyze", "attention", "--checkpoint", str(tmp_path / "none"), "--video", "a.mp4"]
  assert main.main([*argv, "--question", "What?", "--out", str(tmp_path / "a.json")]) == 2
  assert "must end in .png" in capsys.readouterr().err
