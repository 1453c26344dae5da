#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The chat page of a running `lowbit serve` in headless Chromium, through the `playwright` package (PyPI):

    chat_page.py URL [SCREENSHOT.png]

Wants a model with a chat template that goes on for some seconds when it is asked for a long poem. $CHROMIUM names the
browser (/usr/bin/chromium). Exits 77 where the package or the browser is missing, which tests take for skipped.
"""
import os
import sys

chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    print("chat_page: skipped, the playwright package is not installed")
    sys.exit(77)
if not os.path.exists(chromium):
    print("chat_page: skipped, there is no", chromium)
    sys.exit(77)

url = sys.argv[1].rstrip("/")


def until(page, holds, seconds=60):
    """The page's policy forbids the scripts that playwright's own waiting would run in it."""
    for _ in range(20 * seconds):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("the page does not get there")


with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 800, "height": 600})
    errors, foreign = [], []
    page.on("pageerror", lambda problem: errors.append(str(problem)))
    page.on("request", lambda r: None if r.url.startswith(url + "/") else foreign.append(r.url))
    page.goto(url + "/")
    until(page, lambda: page.inner_text("#model") != "")

    # An answer, and words that would be markup.
    said = "Say hello. <b>x</b> é😀"
    page.click("summary")
    page.fill("#tokens", "40")
    page.click("summary")
    page.fill("#text", said)
    page.press("#text", "Enter")
    page.wait_for_selector(".note", timeout=120000)
    assert page.inner_text(".user") == said and page.locator(".user b").count() == 0
    assert page.inner_text(".assistant").strip() and "tokens" in page.inner_text(".note")
    if len(sys.argv) > 2:
        page.screenshot(path=sys.argv[2])

    # A new chat, and an answer that is stopped.
    page.click("#clear")
    assert page.inner_text("#log") == ""
    page.click("summary")
    page.fill("#tokens", "")
    page.click("summary")
    page.fill("#text", "Write a long poem about the sea, ten verses.")
    page.click("#send")
    until(page, lambda: len(page.inner_text(".assistant")) > 10)
    assert page.inner_text("#send") == "Stop"
    page.click("#send")
    until(page, lambda: page.inner_text("#send") == "Send")
    assert page.locator(".error").count() == 0
    assert not errors and not foreign, (errors, foreign)
    browser.close()
print("chat_page: all good")
