# SPDX-License-Identifier: Apache-2.0
"""Asks a checkpoint about a video, and shows which scenes it looked at.

  python examples/ask_from_python.py runs/demo/stage2 lecture.mp4 "What shape is on red?"

Several questions may follow; the video is read and encoded once for all of them.
"""

import argparse

import filax


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("checkpoint", help="a run folder, or one of its checkpoints")
  parser.add_argument("video")
  parser.add_argument("questions", nargs="+")
  options = parser.parse_args()

  session = filax.load(options.checkpoint)
  for scene in session.scenes(options.video):
    seconds = ", ".join(f"{second:.1f}" for second in scene.times)
    print(f"scene at {scene.time:.1f} s, frames at {seconds}")

  if len(options.questions) == 1:
    print(session.ask(options.video, options.questions[0]))
    return
  talk = session.conversation(options.video)
  for question in options.questions:
    print(f"{question} {talk.ask(question).text}")


if __name__ == "__main__":
  main()
