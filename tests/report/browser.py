"""A real browser for tests: headless Chromium, spoken to over the pipe of its DevTools protocol, without further packages."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["CHROMIUM", "MISSING", "PAPERS", "Browser", "Tab"]

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
MISSING = "no Chromium on this machine (Debian: apt-get install chromium)"

PAPERS = {"A4": (8.27, 11.69), "letter": (8.5, 11.0)}
"""Width and height in inches."""

_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-dev-shm-usage",
    "--disable-features=OptimizationHints,MediaRouter,Translate", "--no-default-browser-check", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One Chromium with a profile of its own.

    Args:
        folder: For its profile and its network log.
    """

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        self.netlog = folder / "netlog.json"
        there, mine = os.pipe()
        back, theirs = os.pipe()
        # Chromium listens on file descriptor 3 and answers on 4.
        command = f'exec "$0" "$@" 3<&{there} 4>&{theirs}'
        arguments = (*_QUIET, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={self.netlog}", "about:blank")
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, CHROMIUM, *arguments], pass_fds=(there, theirs), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(there)
        os.close(theirs)
        self._send, self._receive = mine, back
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, parameters: Mapping[str, Any] | None = None, *, session: str = "", timeout: float = 120) -> Any:
        """Call a method of the protocol and return its result; events on the way are kept."""
        self._number += 1
        wanted = self._number
        message: dict[str, Any] = {"id": wanted, "method": method, "params": dict(parameters or {})}
        text = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while text:
            text = text[os.write(self._send, text) :]
        end = time.monotonic() + timeout
        while True:
            answer = self._next(end)
            if answer.get("id") == wanted:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def wait_for(self, method: str, session: str, timeout: float = 120) -> None:
        """Wait for an event of a session."""
        end = time.monotonic() + timeout
        while not any(e["method"] == method and e.get("sessionId") == session for e in self.events):
            answer = self._next(end)
            if "method" in answer:
                self.events.append(answer)

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._receive, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError("the browser does not answer")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def open(self, path: Path | str, *, width: int = 1280, dark: bool = False, media: str = "", height: int = 800) -> Tab:
        """Open a file or address in a new tab and wait until it is loaded.

        Args:
            path: File, or an address.
            width: Width of the window in CSS pixels.
            dark: What the page hears of the reader's preferred color scheme.
            media: `"print"` to lay out as printed.
            height: Height of the window.
        """
        address = path if isinstance(path, str) else path.absolute().as_uri()
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
        tab.call("Page.navigate", {"url": address})
        self.wait_for("Page.loadEventFired", session)
        return tab

    def close(self) -> None:
        """End the browser, so that its network log is whole."""
        try:
            self.call("Browser.close", timeout=20)
        except (TimeoutError, OSError):
            self._process.kill()
        self._process.wait(timeout=20)
        os.close(self._send)
        os.close(self._receive)


class Tab:
    """One open page."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session

    def call(self, method: str, parameters: Mapping[str, Any] | None = None, *, timeout: float = 120) -> Any:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, parameters, session=self._session, timeout=timeout)

    def ask(self, expression: str, *, timeout: float = 120) -> Any:
        """Return the JSON value of a JavaScript expression (a promise is awaited). The page itself has no script."""
        parameters = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", parameters, timeout=timeout)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"].get("exception", {}).get("description")))
        return answer["result"].get("value")

    def _events(self, *methods: str) -> list[dict[str, Any]]:
        return [e for e in self._browser.events if e.get("sessionId") == self._session and e["method"] in methods]

    def console(self) -> list[str]:
        """Return what the page wrote into the console: messages, warnings, errors, refused resources."""
        found = [e["params"]["entry"]["text"] for e in self._events("Log.entryAdded")]
        found += [str(e["params"].get("args")) for e in self._events("Runtime.consoleAPICalled")]
        return found + [str(e["params"]["exceptionDetails"]) for e in self._events("Runtime.exceptionThrown")]

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for, without images that it carries itself."""
        urls = [e["params"]["request"]["url"] for e in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def pdf(self, paper: str) -> bytes:
        """Print the page.

        Args:
            paper: `"A4"` or `"letter"`.
        """
        width, height = PAPERS[paper]
        size = {"paperWidth": width, "paperHeight": height, "printBackground": True, "preferCSSPageSize": False}
        return base64.b64decode(self.call("Page.printToPDF", size)["data"])

    def picture(self, path: Path, *, full: bool = False, clip: Mapping[str, float] | None = None) -> None:
        """Save a picture of the page as PNG: of the window, the whole page, or a part."""
        parameters: dict[str, Any] = {"captureBeyondViewport": full or clip is not None}
        if clip is not None:
            parameters["clip"] = {**clip, "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", parameters)["data"]))

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})
