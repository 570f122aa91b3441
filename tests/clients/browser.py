"""Chromium, without a window, by the WebDriver protocol (W3C) of chromedriver: what a person at GitLab's pages does."""

import json
import os
import re
import urllib.request

from programs import DIRECT, PATIENCE, Program, until

# How an element is named in the protocol.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

ARGUMENTS = [
    "--headless=new",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # It talks to nobody but us.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # Its sandbox refuses to work for root.
    *(["--no-sandbox"] if os.getuid() == 0 else []),
]


class Browser(Program):
    def __init__(self, downloads, *arguments):
        super().__init__(["chromedriver", "--port=0"], "stdout")
        self.downloads = downloads
        self.session = self._driver() + "/session"
        preferences = {"download.default_directory": str(downloads), "download.prompt_for_download": False}
        options = {"args": [*ARGUMENTS, *arguments], "prefs": preferences}
        # An element that isn't there yet is awaited.
        timeouts = {"implicit": PATIENCE * 1000}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "timeouts": timeouts}
        began = self._ask("", {"capabilities": {"alwaysMatch": wanted}})
        self.session += "/" + began["sessionId"]

    def _driver(self):
        while True:
            started = re.search(r"started successfully on port (\d+)", self.next_line())
            if started:
                return f"http://127.0.0.1:{started[1]}"

    def _ask(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        ask = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        with DIRECT.open(ask, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def open(self, url):
        self._ask("/url", {"url": url})

    def url(self):
        return self._ask("/url")

    def title(self):
        return self._ask("/title")

    def expect_title(self, beginning):
        """Awaits a page."""
        until(lambda: self.title().startswith(beginning))

    def _find(self, css):
        return "/element/" + self._ask("/element", {"using": "css selector", "value": css})[ELEMENT]

    def write(self, css, text):
        self._ask(self._find(css) + "/value", {"text": text})

    def click(self, css):
        self._ask(self._find(css) + "/click", {})

    def submit(self):
        """Sends the page's first form and awaits the page that comes of it, be it at the same address."""
        mark = "document.documentElement.dataset.left = ''"
        self._ask("/execute/sync", {"script": mark, "args": []})
        self.click("button[type=submit]")
        self._find("html:not([data-left]) h1")

    def click_link(self, text):
        found = self._ask("/element", {"using": "link text", "value": text})
        self._ask(f"/element/{found[ELEMENT]}/click", {})

    def cookies(self):
        return {cookie["name"]: cookie for cookie in self._ask("/cookie")}

    def downloaded(self, name):
        """The bytes of a file once it is there, and takes it away. Until then it has another name, and an empty file
        may keep its place."""
        file = self.downloads / name
        until(lambda: self.title() is not None and file.exists() and file.stat().st_size)
        content = file.read_bytes()
        file.unlink()
        return content

    def close(self):
        try:
            self._ask("", method="DELETE")
        finally:
            self.stop()
