# SPDX-License-Identifier: Apache-2.0
"""The web page in a real browser: upload, ask, stop, seek, a broken file, a phone's width."""

import json
import shutil
import time

import httpx
from page_server import LONG_ANSWER, serve_page
import pytest
from selenium import webdriver
from selenium.common.exceptions import (
  ElementClickInterceptedException,
  ElementNotInteractableException,
  StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from filax.testing import clips

DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium")
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not (DRIVER and CHROMIUM), reason="chromium and chromedriver are missing"),
]

PATIENCE = 60.0  # Seconds that a slow machine may take.
# The page draws its elements anew at any time, also between finding one and using it.
REDRAWN = (
  ElementClickInterceptedException,
  ElementNotInteractableException,
  StaleElementReferenceException,
)
EVIL = "<img src=x onerror=window.evil=1> What shape is on red?"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  with serve_page(tmp_path_factory.mktemp("demo")) as address:
    yield address


@pytest.fixture(scope="module")
def browser():
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
    options.add_argument(f"--{argument}")
  options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
  service = webdriver.ChromeService(DRIVER)
  driver = webdriver.Chrome(options, service)
  yield driver
  driver.quit()


@pytest.fixture
def page(server, browser):
  """The page, freshly opened at a desktop's width."""
  browser.set_window_size(1280, 1000)
  browser.get("about:blank")
  console_errors(browser)  # Requests of the page before that were cut off by leaving it.
  browser.get(server)
  wait(browser, lambda: element(browser, "#ask"))
  return browser


def wait(browser, condition):
  """Waits until a condition is true; returns its value."""
  patience = WebDriverWait(browser, PATIENCE, 0.1, ignored_exceptions=REDRAWN)
  return patience.until(lambda _: condition())


def element(browser, selector):
  """The first visible element; None without one."""
  for candidate in browser.find_elements(By.CSS_SELECTOR, selector):
    if candidate.is_displayed():
      return candidate
  return None


def click(browser, selector):
  """Clicks the first visible element, as soon as there is one."""

  def pressed():
    target = element(browser, selector)
    if target:
      target.click()
    return target is not None

  wait(browser, pressed)


def text_of(browser, selector):
  """The text of the first visible element; "" without one."""
  return browser.execute_script(
    "const all = [...document.querySelectorAll(arguments[0])];"
    "return all.find((one) => one.checkVisibility())?.innerText ?? '';",
    selector,
  )


def answer_text(browser):
  """The text of the last answer."""
  return browser.execute_script(
    "const all = document.querySelectorAll('#chat .bot .message-content, #chat .bot.message');"
    "return [...all].at(-1)?.innerText ?? '';"
  )


def playback_position(browser):
  return browser.execute_script("return document.querySelector('video').currentTime")


def choose_example(browser):
  click(browser, "[data-example='0']")
  wait(browser, lambda: element(browser, ".filax-sheets"))


def ask(browser, question=""):
  if question:
    wait(browser, lambda: write(browser, "#question textarea", question))
  click(browser, "#ask")


def write(browser, selector, text):
  """Writes a text into a box; True afterwards."""
  box = browser.find_element(By.CSS_SELECTOR, selector)
  box.clear()
  box.send_keys(text)
  return True


def set_number(browser, selector, value):
  browser.execute_script(
    "const box = document.querySelector(arguments[0]);"
    "box.value = arguments[1];"
    "box.dispatchEvent(new Event('input', {bubbles: true}));"
    "box.dispatchEvent(new Event('blur', {bubbles: true}));",
    f"{selector} input",
    str(value),
  )


def console_errors(browser):
  return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_an_uploaded_video_is_asked_about(page, tmp_path):
  video = clips.write_video(tmp_path / "holiday.mp4", frames=60)
  page.find_element(By.CSS_SELECTOR, "input#file").send_keys(video)
  wait(page, lambda: "holiday.mp4: 6.0 seconds" in text_of(page, ".filax-note"))
  assert len(page.find_elements(By.CSS_SELECTOR, ".filax-sheets .sheet")) == 2
  page.execute_script("document.querySelector('.filax-sheets').isFirst = true")
  ask(page, EVIL)
  wait(page, lambda: "measure attention" in text_of(page, ".filax-phases"))
  assert "on the group around" in text_of(page, ".filax-strip")
  bars = page.find_elements(By.CSS_SELECTOR, ".filax-sheets .heat")
  assert max(bar.size["width"] for bar in bars) > 2, "the sheet shows the attention, too"
  is_first = page.execute_script("return document.querySelector('.filax-sheets').isFirst")
  assert is_first, "pictures are megabytes, and were sent again"
  assert answer_text(page)
  assert EVIL in text_of(page, "#chat"), "a question is shown as it was written"
  assert page.execute_script("return window.evil") is None
  assert not console_errors(page)


def begin_long_answer(browser):
  """Asks about the first example; returns when some of the answer is there."""
  choose_example(browser)
  click(browser, "#settings button")
  wait(browser, lambda: element(browser, "#tokens input"))
  set_number(browser, "#tokens", LONG_ANSWER)
  ask(browser)
  lengths = set()
  wait(browser, lambda: lengths.add(len(answer_text(browser))) or len(lengths) > 3)


def test_an_answer_is_streamed_and_can_be_stopped(page):
  begin_long_answer(page)
  click(page, "#stop")
  wait(page, lambda: "Stopped." in text_of(page, ".filax-note"))
  wait(page, lambda: element(page, "#ask"))
  stopped = answer_text(page)
  time.sleep(0.5)
  assert answer_text(page) == stopped
  assert not console_errors(page)


def test_a_page_that_closes_ends_its_answer(server, page):
  begin_long_answer(page)
  page.get("about:blank")
  wait(page, lambda: "filax_running 0" in httpx.get(f"{server}metrics").text)


def test_start_over_forgets_the_answer_that_is_written(server, page):
  begin_long_answer(page)
  click(page, "#anew")
  wait(page, lambda: "filax_running 0" in httpx.get(f"{server}metrics").text)
  wait(page, lambda: not answer_text(page) and element(page, "#ask"))
  assert not console_errors(page)


def test_a_double_click_asks_once(page):
  choose_example(page)
  page.execute_script(
    "const ask = document.querySelector('button#ask');for (let n = 0; n < 2; n++) ask.click();"
  )
  wait(page, lambda: "measure attention" in text_of(page, ".filax-phases"))
  assert len(page.find_elements(By.CSS_SELECTOR, "#chat .user.message")) == 1


def test_the_video_that_is_shown_is_the_one_asked_about(page, tmp_path):
  choose_example(page)
  page.set_network_conditions(latency=0, download_throughput=-1, upload_throughput=10_000)
  video = clips.write_video(tmp_path / "holiday.mp4", frames=600)
  page.find_element(By.CSS_SELECTOR, "input#file").send_keys(video)
  wait(page, lambda: "Uploading" in text_of(page, ".upload-note"))
  assert "examples/0" in page.execute_script("return document.querySelector('video').src")
  click(page, "[data-example='1']")
  page.delete_network_conditions()
  wait(page, lambda: "1.mp4: 8.0 seconds" in text_of(page, ".filax-note"))
  time.sleep(1.0)
  assert "1.mp4" in text_of(page, ".filax-note"), "an upload that ended later took its place"
  assert "examples/1" in page.execute_script("return document.querySelector('video').src")


def test_a_click_moves_the_player(page):
  choose_example(page)
  video = page.find_element(By.CSS_SELECTOR, "video")
  wait(page, lambda: page.execute_script("return arguments[0].readyState", video) >= 1)
  for selector in (".filax-strip button", ".filax-sheets button"):
    seconds = page.execute_script(
      "const last = [...document.querySelectorAll(arguments[0])].at(-1);"
      "last.click();"
      "return Number(last.dataset.seconds);",
      selector,
    )
    assert seconds > 0
    wait(page, lambda near=seconds: abs(playback_position(page) - near) < 0.1)
  assert not console_errors(page)


def test_an_unreadable_file_gives_one_sentence(page, tmp_path):
  noise = clips.write_noise(tmp_path / "noise.mp4")
  page.find_element(By.CSS_SELECTOR, "input#file").send_keys(noise)
  error = wait(page, lambda: text_of(page, ".filax-error"))
  assert error.count(".") <= 3 and "Traceback" not in error and str(tmp_path) not in error
  ask(page, "What is it?")
  wait(page, lambda: "Choose a video first." in text_of(page, ".filax-error"))


def test_the_page_fits_a_phone_and_loads_nothing_from_elsewhere(server, browser):
  browser.get_log("performance")
  browser.set_window_size(390, 844)
  browser.get(server)
  wait(browser, lambda: element(browser, "#ask"))
  choose_example(browser)
  width = browser.execute_script("return document.documentElement.scrollWidth")
  inner = browser.execute_script("return window.innerWidth")
  assert width <= inner, f"the page is {width} pixels wide in a window of {inner}"
  hosts = set()
  for entry in browser.get_log("performance"):
    message = json.loads(entry["message"])["message"]
    if message["method"] == "Network.requestWillBeSent":
      hosts.add(message["params"]["request"]["url"])
  foreign = [url for url in hosts if not url.startswith((server, "data:", "blob:"))]
  assert not foreign
  assert not console_errors(browser)


def test_first_paint(server, browser):
  """The time is printed, not asserted: machines differ."""
  browser.get(server)
  wait(browser, lambda: element(browser, "#ask"))
  paint = browser.execute_script(
    "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
  )
  print(f"first contentful paint after {paint:.0f} ms")
  assert paint > 0
