# SPDX-License-Identifier: Apache-2.0
"""Files that are no media, but stand in their place: the error tells what they are."""

import gzip

import pytest

from data_pipelines.media.open import MediaError
from data_pipelines.media.pictures import read_image
from data_pipelines.media.probe import probe
from filax.testing import clips

FILES = {
  "web page": (
    b"<!DOCTYPE html>\n<html><title>404 Not Found</title>",
    "begins with '<!DOCTYPE html>",
  ),
  "answer of a server": (b'{"error": {"code": 403}}', 'begins with \'{"error": {"code": 403}}\''),
  "drawing": (b'\xef\xbb\xbf<svg xmlns="http://www.w3.org/2000/svg"/>', "begins with '<svg xmlns"),
  "note": ("Mein Hündchen läuft.\n".encode(), "begins with 'Mein Hündchen läuft.'"),
  "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "run git lfs pull"),
  "playlist": (
    b"#EXTM3U\n#EXT-X-VERSION:3\n",
    "is a playlist, whose parts are not read; join them",
  ),
  "archive": (gzip.compress(b"x" * 1000), "is a gzip archive"),
  "download": (bytes(5000), "begins with zeros, as a download that was not completed"),
  "JPEG XL": (b"\xff\x0a" + bytes(100), "is a JPEG XL picture, which is not read"),
}


@pytest.mark.parametrize("extension", ["mp4", "jpg"])
@pytest.mark.parametrize("name", FILES)
def test_the_error_tells_what_a_file_is(name, extension, tmp_path):
  content, reason = FILES[name]
  path = tmp_path / f"a.{extension}"
  path.write_bytes(content)
  assert reason in probe(str(path)).error
  with pytest.raises(MediaError, match=r"a\.(mp4|jpg): ") as caught:
    read_image(path)
  assert reason in str(caught.value)


def test_a_video_that_is_whole_is_only_no_picture(tmp_path):
  path = clips.write_video(tmp_path / "a.mp4", 3)
  with pytest.raises(MediaError, match=r"a\.mp4: is not a picture\.$"):
    read_image(path)
