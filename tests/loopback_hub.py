"""A hub on this machine's loopback, with as much of the API as fetching a data set asks for."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDENTITY = "somebody/cities"
GATED = "somebody/gated"


class _Hub(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:1] == ["api"]:
            identity, revision = "/".join(parts[2:4]), "/".join(parts[5:]) or COMMIT
            if identity == GATED:
                return self.refuse(403, "GatedRepo")
            if identity != IDENTITY:
                return self.refuse(401, "RepoNotFound")
            if revision not in (COMMIT, "main"):
                return self.refuse(404, "RevisionNotFound")
            siblings = [{"rfilename": name} for name in self.files]
            info = {"id": identity, "sha": COMMIT, "siblings": siblings, "gated": False}
            return self.give(json.dumps(info).encode(), "application/json", body)
        name = "/".join(parts[5:])
        if parts[0] == "datasets" and parts[3] == "resolve" and name in self.files:
            return self.give(self.files[name], "application/octet-stream", body)
        return self.refuse(404, "EntryNotFound")

    def give(self, data: bytes, kind: str, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def loopback_hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve one data set, `IDENTITY` at `COMMIT`, and yield the hub's address and what is asked."""
    asked: list[str] = []
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Hub", (_Hub,), {"files": files, "asked": asked})
    )
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
