# SPDX-License-Identifier: Apache-2.0
"""Tars as manifests and as homes of media; nothing in them leads elsewhere."""

import io
import json
import os
import pickle
import tarfile

import pytest

from data_pipelines.manifest import llava
from data_pipelines.media import tar_members
from data_pipelines.media.open import identity, read_bytes
from data_pipelines.media.probe import probe
from data_pipelines.packing.corpus import read_corpus
from filax.testing import clips, corpora, manifests

QUESTION = manifests.question_record("<image>\nWhat?", "Bars.")


def member(name, content=b"", kind=tarfile.REGTYPE, **facts):
  info = tarfile.TarInfo(name)
  info.type = kind
  if not isinstance(content, bytes):
    content = json.dumps(content).encode()
  info.size = len(content)
  for key, value in facts.items():
    setattr(info, key, value)
  return info, content


def write_tar(path, *members, form=tarfile.PAX_FORMAT):
  with tarfile.open(path, "w", format=form) as tar:
    for info, content in members:
      tar.addfile(info, io.BytesIO(content))
  return str(path)


@pytest.mark.parametrize("folder", ["", "/"])
def test_a_medium_of_a_read_record_needs_no_index(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = write_tar(
    os.path.join(folder and tmp_path, "x.tar"), member("0.json", QUESTION), member("0.jpg", b"xx")
  )
  ((sample,), _) = read(path)
  indexes = tar_members._index.cache_info().misses
  assert read_bytes(sample.media[0][0].media) == b"xx"
  assert tar_members._index.cache_info().misses == indexes, "all headers were read"


def read(path):
  report = llava.ManifestReport()
  return list(llava.read_manifest(path, "", report)), [bad.reason for bad in report.bad]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  path = tmp_path_factory.mktemp("clip") / "a.mp4"
  clips.write_video(path, 10)
  return path.read_bytes()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["./set/0", "set.v1/" + "x" * 90, "ü"])
def test_media_are_read_at_their_place(form, name, video, tmp_path):
  path = write_tar(
    tmp_path / "x.tar", member(name + ".json", QUESTION), member(name + ".mp4", video), form=form
  )
  (sample,), bad = read(path)
  ((scene,),) = sample.media
  assert bad == [] and scene.media == f"{path}#{name.removeprefix('./')}.mp4"
  assert probe(scene.media).frames == 10 and read_bytes(scene.media) == video
  tar_members._places.clear()  # By the index of names, as from another manifest.
  assert read_bytes(scene.media) == video


def test_a_long_name(video, tmp_path):
  name = "x" * 300
  path = write_tar(
    tmp_path / "x.tar",
    member(name + ".json", QUESTION),
    member(name + ".mp4", video),
    form=tarfile.GNU_FORMAT,
  )
  (sample,), _ = read(path)
  assert read_bytes(sample.media[0][0].media) == video


def test_a_record_names_its_members(video, tmp_path):
  named = dict(QUESTION, video="0.b.mp4")
  old = dict(QUESTION, video="/data/old/name.mp4")
  other = dict(QUESTION, video="#0.b.mp4")
  path = write_tar(
    tmp_path / "x.tar",
    *(member("0.json", named), member("0.a.mp4", b"no"), member("0.b.mp4", video)),
    *(member("1.json", old), member("1.mp4", video)),
    *(member("2.json", other),),
    *(member("3.json", dict(QUESTION, video="away.mp4")),),
  )
  samples, bad = read(path)
  names = [sample.media[0][0].media for sample in samples]
  expected = [f"{path}#0.b.mp4", f"{path}#1.mp4", f"{path}#0.b.mp4", f"{tmp_path}/away.mp4"]
  assert (names, bad) == (expected, [])


def test_text_in_messages_is_no_name(video, tmp_path):
  turns = [
    {
      "role": "user",
      "content": [{"type": "video", "video": "mp4"}, {"type": "text", "text": "mp4"}],
    },
    {"role": "assistant", "content": "mp4"},
  ]
  path = write_tar(tmp_path / "x.tar", member("0.json", turns), member("0.mp4", video))
  (sample,), _ = read(path)
  assert [turn.text for turn in sample.turns] == ["mp4", "mp4"]
  assert sample.media[0][0].media == f"{path}#0.mp4"


def test_the_table_reads_tars(video, tmp_path):
  members = []
  for number in range(9):
    members += [member(f"{number}.json", QUESTION), member(f"{number}.mp4", video)]
  path = write_tar(tmp_path / "x.tar", *members)
  config = corpora.data_config(tmp_path, train=((path, "end:3"),))
  corpus = read_corpus(config, 0, str(tmp_path / "cache"))
  assert list(corpus.samples) == read(path)[0][-3:]
  assert list(pickle.loads(pickle.dumps(corpus.samples))) == list(corpus.samples)


BAD_MEMBERS = {
  "symbolic link": (member("1.mp4", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), "symbolic link"),
  "link": (member("1.mp4", kind=tarfile.LNKTYPE, linkname="0.mp4"), "is a link"),
  "device": (member("1.mp4", kind=tarfile.CHRTYPE, devmajor=1, devminor=5), "is a device"),
  "pipe": (member("1.mp4", kind=tarfile.FIFOTYPE), "is a pipe"),
  "sparse": (member("1.mp4", kind=tarfile.GNUTYPE_SPARSE), "is a sparse file"),
  "parent": (member("../1.mp4", b"x"), "a name that leads out of the tar"),
  "root": (member("/1.mp4", b"x"), "a name that leads out of the tar"),
  "pickle": (member("1.pyd", b"x"), "as a pickle"),
  "alone": (member("1.mp4", b"x"), "has no .json or .txt beside"),
  "no JSON": (member("1.json", b"{"), 'has "1.json", which is not JSON: Expecting'),
  "number": (member("1.json", b"3"), "is 3, not an object"),
  "deep": (member("1.json", b"[" * 100_000), ""),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_a_bad_member_costs_its_record(name, video, tmp_path):
  bad_member, expected = BAD_MEMBERS[name]
  path = write_tar(
    tmp_path / "x.tar",
    *(member("0.json", QUESTION), member("0.mp4", video)),
    bad_member,
    *(member("2.json", QUESTION), member("2.mp4", video)),
    form=tarfile.GNU_FORMAT,
  )
  samples, bad = read(path)
  assert len(samples) == 2 and len(bad) == 1
  assert expected in bad[0]


@pytest.mark.parametrize("name", ["symbolic link", "link", "device", "pipe", "sparse", "parent"])
def test_a_bad_member_is_no_medium(name, tmp_path):
  bad_member, expected = BAD_MEMBERS[name]
  path = write_tar(tmp_path / "x.tar", bad_member, form=tarfile.GNU_FORMAT)
  assert expected in probe(f"{path}#{bad_member[0].name}").error


def test_two_members_of_one_name(video, tmp_path):
  twice = (member("0.mp4", video), member("0.mp4", b"other"))
  path = write_tar(tmp_path / "x.tar", member("0.json", QUESTION), *twice)
  assert read(path) == ([], ['has the member "0.mp4" twice'])
  assert "is 2 members of one name" in probe(f"{path}#0.mp4").error


@pytest.mark.parametrize("size", [-1, 10_000, 2**62])
def test_a_size_beyond_the_file(size, tmp_path):
  info, _ = member("1.mp4")
  info.size = size
  header = info.tobuf(tarfile.GNU_FORMAT)
  path = tmp_path / "x.tar"
  path.write_bytes(header + bytes(1024))
  (reason,) = read(path)[1]
  assert "is cut off" in reason and "the rest cannot be read" in reason
  assert "is cut off" in probe(f"{path}#1.mp4").error


def test_a_header_of_many_bytes(tmp_path):
  info, _ = member("x", kind=tarfile.XHDTYPE)
  info.size = 2 << 20
  (tmp_path / "x.tar").write_bytes(info.tobuf() + bytes(2 << 20) + bytes(1024))
  assert "has a header of 2097152 bytes" in read(tmp_path / "x.tar")[1][0]


@pytest.mark.parametrize("cut", [1, 600, 1536, 2000])
def test_a_tar_that_is_cut_off_keeps_what_is_before(cut, video, tmp_path):
  path = write_tar(
    tmp_path / "x.tar",
    *(member("0.json", QUESTION), member("0.mp4", video)),
    *(member("1.json", QUESTION), member("1.mp4", video)),
  )
  end = len(video) // 512 * 512 + 512 + 1024  # Of the first record, without its last header.
  os.truncate(path, end + 512 + cut)
  samples, bad = read(path)
  assert len(samples) >= 1 and "is cut off" in bad[-1]
  assert probe(samples[0].media[0][0].media).frames == 10


@pytest.mark.parametrize("content", [b"\x1f\x8b" + bytes(600), b"", bytes(10_240)])
def test_files_that_are_no_tars(content, tmp_path):
  (tmp_path / "x.tar").write_bytes(content)
  try:
    samples, bad = read(tmp_path / "x.tar")
  except llava.ManifestError as error:
    assert "is a gzip file" in str(error) or "is empty" in str(error)
  else:
    assert samples == [] and len(bad) == 1


def test_a_changed_tar_is_another_medium(video, tmp_path):
  path = write_tar(tmp_path / "x.tar", member("0.json", QUESTION), member("0.mp4", video))
  before = identity(f"{path}#0.mp4")
  os.utime(path, (1, 1))
  assert identity(f"{path}#0.mp4") != before
  assert "does not exist" in probe(f"{tmp_path}/away.tar#0.mp4").error
  assert "none of that name" in probe(f"{path}#1.mp4").error


def test_a_tar_that_is_a_pipe_is_refused(tmp_path):
  os.mkfifo(tmp_path / "x.tar")
  assert "neither a file nor a folder" in probe(f"{tmp_path}/x.tar#0.mp4").error
  with pytest.raises(llava.ManifestError, match="not a regular file"):
    read(tmp_path / "x.tar")
