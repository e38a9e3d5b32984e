"""BigQuery's REST API on loopback, as far as a query needs it; the SQL runs on DuckDB.

There is no emulator to install. Statements are transpiled by sqlglot, answers are paged as the
service pages them, and a running job says state RUNNING and jobComplete false, as it does.
"""

import json
import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import duckdb
import sqlglot

TYPES = {"BIGINT": "INTEGER", "INTEGER": "INTEGER", "TINYINT": "INTEGER", "DOUBLE": "FLOAT"}
BYTES = 12_345_678


@dataclass
class BigQuery:
    """A running stub: tables, faults, and what it was asked."""

    url: str = ""
    database: Any = field(default_factory=duckdb.connect)
    page_size: int = 3
    polls: int = 0
    """How often a job says that it still runs."""
    faults: list[list[Any]] = field(default_factory=list)
    """[part of the path, times, status, reason, message] or [part, times, "stall"]."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    def fail(self, part: str, times: float, *what: Any) -> None:
        self.faults.append([part, times, *what])

    def take_fault(self, path: str) -> list[Any] | None:
        for fault in self.faults:
            if fault[0] in path and fault[1] > 0:
                fault[1] -= 1
                return fault
        return None

    def run(self, sql: str, parameters: list[dict[str, Any]]) -> tuple[list[dict], list[tuple]]:
        values: dict[str, Any] = {}
        for parameter in parameters:
            value = parameter["parameterValue"]
            if "arrayValues" in value:
                values[parameter["name"]] = [item["value"] for item in value["arrayValues"]]
            else:
                values[parameter["name"]] = int(value["value"])
        plain = sql.replace("`physionet.mimic.", "`")
        (translated,) = sqlglot.transpile(plain, read="bigquery", write="duckdb")
        used = {name: value for name, value in values.items() if f"${name}" in translated}
        answer = self.database.execute(translated, used)
        schema = [
            {"name": column[0], "type": TYPES.get(str(column[1]), "STRING"), "mode": "NULLABLE"}
            for column in answer.description
        ]
        return schema, answer.fetchall()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, service: BigQuery, *args) -> None:
        self.service = service
        super().__init__(*args)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(body)

    def do_GET(self):
        self.answer(None)

    def answer(self, body):
        service = self.service
        with service.lock:
            service.requests.append(f"{self.command} {self.path}")
            fault = service.take_fault(self.path)
        if fault is not None and fault[2] == "stall":
            service.stopping.wait(30)
            self.close_connection = True
            return
        if fault is not None:
            self.send(*error(*fault[2:]))
            return
        with service.lock:
            self.send(*self.route(urlparse(self.path), body))

    def route(self, url, body):
        service = self.service
        if body is not None and url.path.endswith("/queries"):
            raise NotImplementedError("jobs.query: the client was asked for jobs.insert")
        if body is not None:
            return self.insert(body)
        name = url.path.rsplit("/", 1)[1]
        job = service.jobs[name]
        if "/jobs/" in url.path:
            return 200, job_resource(name, job)
        if job["polls"] > 0:
            job["polls"] -= 1
            return 200, {"jobComplete": False, "jobReference": reference(name)}
        start = int(parse_qs(url.query).get("pageToken", ["0"])[0])
        most = int(parse_qs(url.query).get("maxResults", [service.page_size])[0])
        stop = start + min(most, service.page_size)
        rows = [
            {"f": [{"v": None if value is None else str(value)} for value in row]}
            for row in job["rows"][start:stop]
        ]
        answer = {
            "jobComplete": True,
            "jobReference": reference(name),
            "schema": {"fields": job["schema"]},
            "totalRows": str(len(job["rows"])),
        }
        if most:  # without rows asked for there is no such key, not an empty list
            answer["rows"] = rows
        if most and stop < len(job["rows"]):
            answer["pageToken"] = str(stop)
        return 200, answer

    def insert(self, body):
        service = self.service
        configuration = body["configuration"]
        limit = int(configuration["query"].get("maximumBytesBilled", 0))
        if not limit:
            raise AssertionError("a query without maximumBytesBilled")
        if limit < BYTES and not configuration.get("dryRun"):
            said = f"Query exceeded limit for bytes billed: {limit}. {BYTES} or higher required."
            return error(500, "bytesBilledLimitExceeded", said)
        name = body["jobReference"].get("jobId", "dry")
        job = {"configuration": configuration, "polls": service.polls, "schema": [], "rows": []}
        if not configuration.get("dryRun"):
            query = configuration["query"]
            try:
                job["schema"], job["rows"] = service.run(
                    query["query"], query.get("queryParameters", [])
                )
            except duckdb.Error as failure:
                return error(400, "invalidQuery", str(failure).splitlines()[0])
        service.jobs[name] = job
        return 200, job_resource(name, job)

    def send(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def error(status, reason, message):
    return status, {
        "error": {
            "code": status,
            "message": message,
            "errors": [{"reason": reason, "message": message}],
        }
    }


def reference(name):
    return {"projectId": "p", "jobId": name, "location": "US"}


def job_resource(name, job):
    return {
        "kind": "bigquery#job",
        "id": f"p:US.{name}",
        "jobReference": reference(name),
        "configuration": {**job["configuration"], "jobType": "QUERY"},
        "status": {"state": "RUNNING" if job["polls"] > 0 else "DONE"},
        "statistics": {
            "totalBytesProcessed": str(BYTES),
            "query": {"totalBytesProcessed": str(BYTES), "statementType": "SELECT"},
        },
    }


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        import sys

        failure = sys.exception()
        if not isinstance(failure, ConnectionError):
            super().handle_error(request, client_address)


def start() -> tuple[BigQuery, Server]:
    """Serve an empty project on a free port."""
    service = BigQuery()
    server = Server(("127.0.0.1", 0), partial(Handler, service))
    service.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return service, server
