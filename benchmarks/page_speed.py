# SPDX-License-Identifier: Apache-2.0
"""Seconds until a browser paints the web page of `filax serve`.

  python -m benchmarks.page_speed
  python -m benchmarks.page_speed --checkpoint runs/demo/stage2

Opens the page in headless chromium again and again, each time with an empty cache, and prints the
medians of the first paint, of the first content, and of the moment when a question can be asked.
Needs chromium, chromedriver and selenium.
"""

import argparse
from collections.abc import Mapping, Sequence
import pathlib
import shutil
import statistics
import tempfile
import time

from benchmarks.serving_client import running_server
from filax.testing import tiny_checkpoint

PAINTS = "return performance.getEntriesByType('paint').map(entry => [entry.name, entry.startTime])"
CAN_ASK = "const ask = document.querySelector('#ask'); return Boolean(ask && ask.offsetParent)"
LONGEST = 60.0  # Seconds for one page.


def main(argv: Sequence[str] | None = None) -> None:
  """Starts the server and measures."""
  args = page_arguments(argv)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    checkpoint = args.checkpoint or tiny_checkpoint.write_checkpoint(folder / "tiny")
    with running_server(checkpoint, with_page=True) as server:
      visits = [visit(server.url) for _ in range(args.visits)]
  for moment in visits[0]:
    seconds = [row[moment] for row in visits]
    print(f"{moment:<24} {statistics.median(seconds):.2f} s (largest {max(seconds):.2f} s)")


def page_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
  """The settings of a run."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.page_speed",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--checkpoint", default="", help="default: a tiny random model")
  parser.add_argument("--visits", type=int, default=5)
  return parser.parse_args(argv)


def visit(url: str) -> Mapping[str, float]:
  """Seconds of each moment after a new browser opens the address."""
  from selenium import webdriver

  options = webdriver.ChromeOptions()
  options.binary_location = shutil.which("chromium") or ""
  for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
    options.add_argument(f"--{argument}")
  browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver") or ""))
  try:
    start = time.monotonic()
    browser.get(url)
    while not browser.execute_script(CAN_ASK):
      if time.monotonic() - start > LONGEST:
        raise RuntimeError("The page does not appear.")
      time.sleep(0.02)
    moments = {name: moment / 1000 for name, moment in browser.execute_script(PAINTS)}
    return moments | {"can-ask": time.monotonic() - start}
  finally:
    browser.quit()


if __name__ == "__main__":
  main()
