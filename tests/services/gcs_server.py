"""Google Cloud Storage on loopback: the handler of gcp-storage-emulator behind injected faults.

The stock emulator is a single-threaded HTTP/1.0 server that stalls above a few requests at once;
here its handler is served by threads and speaks HTTP/1.1.
"""

import base64
import hashlib
import io
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import google_crc32c
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

BUCKET = "mimic-cxr-jpg"
PROJECT = "secret-billing-project"
"""Who pays in the tests; must never show in a log."""


@dataclass
class Fault:
    """What happens to the next `times` requests whose path holds `match`."""

    kind: str
    match: str = "/download/"
    times: float = 1
    status: int = 0
    message: str = "injected"


@dataclass
class Gcs:
    """A running server: its URL, its faults and what it was asked."""

    url: str
    storage: Storage
    lock: threading.Lock
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    latency: float = 0.0
    requester_pays: bool = True
    list_page: int = 1000
    in_flight: int = 0
    most_in_flight: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def put(self, path: str, data: bytes) -> None:
        resource = {
            "name": path,
            "bucket": BUCKET,
            "size": str(len(data)),
            "contentType": "image/jpeg",
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            "crc32c": base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode(),
        }
        self.storage.create_file(BUCKET, path, data, resource)

    def fail(self, kind: str, **options) -> None:
        self.faults.append(Fault(kind, **options))

    def take_fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.match in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


class FaultyHandler(RequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, gcs: Gcs, *args) -> None:
        self.gcs = gcs
        super().__init__(gcs.storage, *args)

    def do_GET(self):  # noqa: N802
        gcs = self.gcs
        with gcs.lock:
            gcs.requests.append(self.path)
            gcs.in_flight += 1
            gcs.most_in_flight = max(gcs.most_in_flight, gcs.in_flight)
        try:
            if gcs.latency:
                time.sleep(gcs.latency)
            self.respond()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with gcs.lock:
                gcs.in_flight -= 1

    def respond(self):
        fault = self.gcs.take_fault(self.path)
        if fault is not None and fault.kind == "reset":
            # Linger 0: the close is a reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if fault is not None and fault.kind == "status":
            self.send_error_json(fault.status, fault.message)
            return
        if self.gcs.requester_pays and "userProject=" not in self.path:
            self.send_error_json(
                400, "Bucket is a requester pays bucket but no user project provided."
            )
            return
        head, body = self.real_answer()
        if fault is not None and fault.kind == "stall":
            self.wfile.write(head + b"\r\n\r\n" + body[: len(body) // 2])
            self.wfile.flush()
            self.gcs.stopping.wait(30)
            self.close_connection = True
            return
        if fault is not None and fault.kind == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        if fault is not None and fault.kind == "cut_matching":
            length = b"Content-Length: %d"
            head = head.replace(length % len(body), length % (len(body) // 2))
            body = body[: len(body) // 2]
        if fault is not None and fault.kind == "flip":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if fault is not None and fault.kind == "no_hash":
            head = b"\r\n".join(
                line for line in head.split(b"\r\n") if not line.lower().startswith(b"x-goog-hash")
            )
        self.wfile.write(head + b"\r\n\r\n" + body)

    def real_answer(self) -> tuple[bytes, bytes]:
        wire, self.wfile = self.wfile, io.BytesIO()
        try:
            with self.gcs.lock:
                super().do_GET()
            head, _, body = self.wfile.getvalue().partition(b"\r\n\r\n")
        finally:
            self.wfile = wire
        url = urlparse(self.path)
        if url.path.endswith("/o") and b" 200 " in head[:20]:
            paged = self.one_page(json.loads(body), parse_qs(url.query))
            head = head.replace(
                b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(paged)
            )
            body = paged
        return head, body

    def one_page(self, listing, query) -> bytes:
        """The emulator lists everything at once; the service pages."""
        items = sorted(listing["items"], key=lambda item: item["name"])
        start = int(query.get("pageToken", ["0"])[0])
        stop = start + self.gcs.list_page
        answer = {"items": items[start:stop]}
        if stop < len(items):
            answer["nextPageToken"] = str(stop)
        return json.dumps(answer).encode()

    def send_error_json(self, status: int, message: str) -> None:
        body = json.dumps({"error": {"code": status, "message": message}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # a client that gave up is part of the tests


def start() -> tuple[Gcs, Server]:
    """Serve an empty requester-pays bucket on a free port."""
    storage = Storage(use_memory_fs=True)
    buckets.create_bucket(BUCKET, storage)
    gcs = Gcs("", storage, threading.Lock())
    server = Server(("127.0.0.1", 0), partial(FaultyHandler, gcs))
    gcs.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return gcs, server


def stop(gcs: Gcs, server: Server) -> None:
    """Wake stalled answers and close the port."""
    gcs.stopping.set()
    server.shutdown()
    server.server_close()
