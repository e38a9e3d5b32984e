"""A headless Chromium that a test talks to over two pipes (the DevTools protocol)."""

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import apt_packages

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install --no-install-recommends chromium"


def program() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install() -> str | None:
    """Install Chromium if it is absent and this user may; return why not, or None if there."""
    return apt_packages.install("Chromium", INSTALL, lambda: () if program() else ("chromium",))


class Browser:
    """One tab; `said` is what the page wrote to the console, errors and refusals included."""

    def __init__(self, profile: Path, width: int = 1200, height: int = 900) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            f"--user-data-dir={profile}", f"--window-size={width},{height}",
            "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
        ]  # fmt: skip
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        self._process = subprocess.Popen(
            [
                "bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash",
                str(program()), *arguments,
            ],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._read, self._write = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._number, self._rest, self._session = 0, b"", None
        self._events: list[dict[str, Any]] = []
        self._scripts = True
        self.said: list[str] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        attached = self("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write.close()
        self._process.terminate()
        self._process.wait(timeout=20)
        self._read.close()

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._hear(answer)

    def open(self, page: Path, after: str = "") -> None:
        """Open a file, with what stands `after` the `#` of its address, and wait for it."""
        self._events.clear()
        self("Page.navigate", url="about:blank")
        self("Page.navigate", url=f"{page.as_uri()}{after and f'#{after}'}")
        while not self.run("document.readyState === 'complete' && location.protocol === 'file:'"):
            pass
        # Charts are drawn again once the layout is known; a page without scripts hears of no frame.
        if self._scripts:
            self.settle()

    def settle(self) -> None:
        """Wait for two frames: what was asked for is drawn."""
        self.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def run(self, script: str) -> Any:
        """Evaluate JavaScript and return its value; a promise is waited for."""
        answer = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key, such as Tab (9) or Enter (13)."""
        text = "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            self(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )  # fmt: skip

    def screen(self, *, width: int = 1200, dark: bool = False, scripts: bool = True) -> None:
        """Set how wide the screen is, which colours are preferred, and whether scripts run."""
        self(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._scripts = scripts

    def picture(self, path: Path) -> None:
        """Write the whole page as it looks to a PNG."""
        shot = self("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def printed(self, path: Path) -> None:
        """Write the page as it is printed to a PDF."""
        path.write_bytes(base64.b64decode(self("Page.printToPDF")["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], 60)
            assert ready, "Chromium says nothing for a minute"
            found = os.read(self._read.fileno(), 1 << 16)
            assert found, "Chromium ended"
            self._rest += found
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _hear(self, event: Mapping[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.said.append(str(told["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled":
            self.said.append(str(told["args"]))
        elif event.get("method") == "Log.entryAdded":
            self.said.append(told["entry"]["text"])
