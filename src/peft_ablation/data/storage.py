"""Bytes of many objects under one root, in order and verified: a local tree or cloud storage.

Cloud storage is read through fsspec, `gs://` through gcsfs. Many objects are in flight at a time,
never more than `cloud.requests_in_flight`, so that memory does not grow with their number.
"""

import asyncio
import base64
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_ablation.artifacts import whole_file
from peft_ablation.data.google_access import (
    ACCESS_PAGE,
    LOG_IN,
    billing_project,
    cloud_settings,
    credentials,
    scrubbed,
)
from peft_ablation.errors import InputError

CHECKSUM_FILES = ("SHA256SUMS.txt", "SHA256SUMS")
# Wrong bytes are fetched again so many times before the object itself is held to be wrong.
TRIES = 3
# What a waiting reader grants beyond the deadline that the request keeps by itself.
GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class BadObject:
    """An object that gave no trustworthy bytes."""

    status: str
    """One of `missing`, `empty`, `checksum`, `forbidden`, `unreadable`."""
    detail: str
    """What was found, in a few words."""


def is_local(root: str | Path) -> bool:
    """Tell whether `root` is a folder of this machine rather than a URL."""
    return "://" not in str(root)


def read_objects(
    root: str | Path,
    paths: Sequence[str],
    *,
    checksums: Mapping[str, str] | None = None,
    verify: bool = True,
    cloud: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, bytes | BadObject]]:
    """Yield each path with its bytes, or with what is wrong with it, in the order of `paths`.

    With `verify`, bytes are held against `checksums` (path to SHA-256 in hex, where given; a path
    that is not in it is bad) and against the md5Hash or crc32c of Google Cloud Storage. Bytes that
    do not fit are fetched again and never passed on.

    Raises `InputError` for what concerns more than one object: no credentials, no access, nobody
    who pays, no connection, or a service that gave no answer within `cloud.deadline` seconds.
    """
    wanted = checksums if verify else None
    if is_local(root):
        for path in paths:
            yield path, _read_local(Path(root, path), path, wanted)
        return
    settings = cloud_settings(cloud)
    source = _Remote(str(root), settings, wanted, verify)
    try:
        yield from _in_order(source, paths, settings)
    finally:
        source.close()


def _read_local(file: Path, path: str, checksums: Mapping[str, str] | None) -> bytes | BadObject:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return BadObject("missing", "no such file")
    except PermissionError:
        return BadObject("forbidden", "no permission to read the file")
    except OSError as error:
        return BadObject("unreadable", error.strerror or type(error).__name__)
    if not data:
        return BadObject("empty", "0 bytes")
    wrong = _sha256_problem(data, path, checksums)
    return data if wrong is None else BadObject("checksum", wrong)


def _sha256_problem(data: bytes, path: str, checksums: Mapping[str, str] | None) -> str | None:
    if checksums is None:
        return None
    if path not in checksums:
        return "not listed in SHA256SUMS"
    if hashlib.sha256(data).hexdigest() != checksums[path]:
        return f"SHA-256 of {len(data)} bytes differs from SHA256SUMS"
    return None


def _in_order(
    source: "_Remote", paths: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[tuple[str, bytes | BadObject]]:
    pending: deque[tuple[str, Future[bytes | BadObject]]] = deque()
    # The first object goes alone: no access is then told once, after one request.
    window, proven = 1, False
    try:
        for place in range(len(paths) + 1):
            while pending and (len(pending) >= window or place == len(paths)):
                path, future = pending.popleft()
                try:
                    found = future.result(timeout=settings["deadline"] + GRACE_SECONDS)
                except Exception as error:
                    found = source.failure(path, error, proven)
                yield path, found
                window, proven = settings["requests_in_flight"], True
            if place < len(paths):
                pending.append((paths[place], source.submit(paths[place])))
    finally:
        for _, future in pending:
            future.cancel()


class _Remote:
    """One fsspec file system, opened for this process alone (they do not survive a fork)."""

    def __init__(
        self,
        root: str,
        settings: Mapping[str, Any],
        checksums: Mapping[str, str] | None,
        verify: bool,
    ) -> None:
        self.root = root.rstrip("/")
        self.settings = settings
        self.checksums = checksums
        self.verify = verify
        self.keep = Path(settings["keep_originals"]) if settings["keep_originals"] else None
        self.last: dict[str, str] = {}
        """Last answer to each object still asked for; gcsfs retries without telling."""
        self.fs, self.base = open_filesystem(self.root, settings, self.last)
        self.is_google = root.startswith(("gs://", "gcs://"))
        self.pool = (
            None if self.fs.async_impl else ThreadPoolExecutor(settings["requests_in_flight"])
        )

    def submit(self, path: str) -> "Future[bytes | BadObject]":
        if self.keep is not None and (self.keep / path).is_file():
            kept: Future[bytes | BadObject] = Future()
            kept.set_result(_read_local(self.keep / path, path, self.checksums))
            return kept
        if self.pool is not None:
            return self.pool.submit(self._fetch_blocking, path)
        return asyncio.run_coroutine_threadsafe(
            asyncio.wait_for(self._fetch(path), self.settings["deadline"]), self.fs.loop
        )

    async def _fetch(self, path: str) -> bytes | BadObject:
        key = f"{self.base}/{path}"
        wrong = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(min(0.2 * 2**attempt, 5))
            if self.is_google:
                data, problem = await self._fetch_google(key)
            else:
                data, problem = await self.fs._cat_file(key), None
            problem = problem or _sha256_problem(data, path, self.checksums)
            if problem is None:
                return self._kept(path, data)
            wrong = problem
        return BadObject("checksum", f"{wrong}, {TRIES} times")

    async def _fetch_google(self, key: str) -> tuple[bytes, str | None]:
        # cat_file would throw the headers away, and with them the hash: one request instead of two.
        headers, data = await self.fs._call("GET", self.fs.url(key))
        self.last.pop(key.split("/", 1)[1], None)
        if not self.verify:
            return data, None
        hashes = dict(
            part.strip().split("=", 1)
            for line in headers.getall("x-goog-hash", [])
            for part in line.split(",")
        )
        if not hashes:
            info = await self.fs._call("GET", "b/{}/o/{}", *key.split("/", 1), json_out=True)
            hashes = {"md5": info.get("md5Hash"), "crc32c": info.get("crc32c")}
        return data, _google_problem(data, hashes)

    def _fetch_blocking(self, path: str) -> bytes | BadObject:
        end = time.monotonic() + self.settings["deadline"]
        wrong = ""
        for attempt in range(TRIES):
            try:
                data = self.fs.cat_file(f"{self.base}/{path}")
            except (FileNotFoundError, PermissionError):
                raise
            except Exception:
                if attempt == TRIES - 1 or time.monotonic() > end:
                    raise
                continue
            problem = _sha256_problem(data, path, self.checksums)
            if problem is None:
                return self._kept(path, data)
            wrong = problem
        return BadObject("checksum", f"{wrong}, {TRIES} times")

    def _kept(self, path: str, data: bytes) -> bytes | BadObject:
        if not data:
            return BadObject("empty", "0 bytes")
        if self.keep is not None:
            with whole_file(self.keep / path) as part:
                part.write_bytes(data)
        return data

    def failure(self, path: str, error: Exception, proven: bool) -> BadObject:
        """Return what is wrong with one object, or raise `InputError` if it concerns them all."""
        last = self.last.get(f"{self.base}/{path}".split("/", 1)[1], "nothing")
        return explain_failure(f"{self.root}/{path}", error, proven, self.settings, last)

    def close(self) -> None:
        """Give connections back."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
        session = getattr(self.fs, "_session", None)
        if session is not None and self.is_google:
            self.fs.close_session(self.fs.loop, session)


def open_filesystem(
    root: str, settings: Mapping[str, Any], last: dict[str, str] | None = None
) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the root's path in it.

    `last` is filled with the last answer to each object of Google Cloud Storage.

    For `gs://`: application-default credentials, read only, requester pays, and timeouts (gcsfs
    has none of its own: a stall would hang for ever). STORAGE_EMULATOR_HOST points elsewhere.
    """
    import fsspec
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(
        total=None,
        sock_connect=settings["connect_timeout"],
        sock_read=settings["read_timeout"],
    )
    if not root.startswith(("gs://", "gcs://")):
        options = {"client_kwargs": {"timeout": timeout}} if root.startswith("http") else {}
        try:
            fs, base = fsspec.core.url_to_fs(root, skip_instance_cache=True, **options)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"config: cloud.images_url: cannot read {root.split('://')[0]}:// URLs "
                f"({scrubbed(error)})"
            ) from None
        return fs, str(base).rstrip("/")
    # The class that `gcsfs` exports probes the bucket by gRPC before every call and breaks
    # requester pays (fsspec/gcsfs#814); this is the one below it.
    from gcsfs.core import GCSFileSystem

    # It logs a traceback for each error that it also raises.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    payer = billing_project(settings)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    token = credentials(
        "https://www.googleapis.com/auth/devstorage.read_only", "STORAGE_EMULATOR_HOST"
    )
    fs = GCSFileSystem(
        token="anon" if emulator else token,
        access="read_only",
        requester_pays=payer,
        requests_timeout=timeout,
        session_kwargs={"trace_configs": [_trace({} if last is None else last)]},
        endpoint_url=emulator,
        skip_instance_cache=True,
    )
    return fs, root.split("://", 1)[1]


def _trace(last: dict[str, str]) -> Any:
    """Return an aiohttp trace that writes each object's last answer into `last`."""
    import aiohttp

    async def answered(_session: Any, _context: Any, params: Any) -> None:
        status = params.response.status
        last[_object_name(params.url)] = (
            f"status {status}" if status >= 400 else "an answer that was cut or stalled"
        )

    async def failed(_session: Any, _context: Any, params: Any) -> None:
        last[_object_name(params.url)] = type(params.exception).__name__

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(answered)
    trace.on_request_exception.append(failed)
    return trace


def _object_name(url: Any) -> str:
    return str(url.path).rpartition("/o/")[2]


def _google_problem(data: bytes, hashes: Mapping[str, str | None]) -> str | None:
    """Say how `data` differs from its base64 md5, or its crc32c (composite objects have no md5)."""
    if hashes.get("md5"):
        found = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        kind, expected = "md5Hash", hashes["md5"]
    elif hashes.get("crc32c"):
        import google_crc32c

        found = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        kind, expected = "crc32c", hashes["crc32c"]
    else:
        return "the store gives neither md5Hash nor crc32c"
    return None if found == expected else f"{len(data)} bytes differ from the store's {kind}"


def explain_failure(
    url: str, error: Exception, proven: bool, settings: Mapping[str, Any], last: str = "nothing"
) -> BadObject:
    """Turn a request's exception into a bad object, or raise the one line that ends the run.

    `proven`: another object was read before, so that a refusal is this object's alone. `last`:
    what the last of several tries gave.
    """
    import aiohttp
    from google.auth.exceptions import GoogleAuthError

    said = scrubbed(str(error).partition("\n")[2] or error, settings)
    code = getattr(error, "code", None)
    payment = "set cloud.billing_project to a project with billing that you may use"
    again = "nothing wrong was kept; run the same command again"
    bill_words = ("requester pays", "serviceusage", "billing", "user project", "userproject")
    if isinstance(error, FileNotFoundError):
        return BadObject("missing", "not in the store (404)")
    if any(word in said.lower() for word in bill_words):
        raise InputError(f"{url}: nobody is billed for the download: {said}; {payment}") from None
    refused = isinstance(error, aiohttp.ClientConnectorError | ConnectionRefusedError)
    if refused or last.startswith("ClientConnector"):
        kind = type(error).__name__ if refused else last
        raise InputError(
            f"{url}: no connection to the store ({kind}); check the network or cloud.images_url "
            "(compute nodes often have none), then run the same command again"
        ) from None
    if isinstance(error, TimeoutError):
        raise InputError(
            f"{url}: no whole answer within cloud.deadline ({settings['deadline']:g} s), retries "
            f"included; the last try gave {last}; {again}, or raise cloud.deadline"
        ) from None
    if isinstance(error, GoogleAuthError) or code in (401, "401"):
        raise InputError(f"{url}: Google Cloud refused the credentials; {LOG_IN}") from None
    if isinstance(error, PermissionError) or str(error).startswith("Forbidden"):
        if proven:
            return BadObject("forbidden", "access denied (403)")
        raise InputError(
            f"{url}: access denied (403: {said}); request access to the data set for the account "
            f"of the application-default credentials at {ACCESS_PAGE}"
        ) from None
    if code is not None:
        raise InputError(
            f"{url}: the store answered {code} ({said}) to every try; {again}"
        ) from None
    raise InputError(f"{url}: {type(error).__name__} ({said}); {again}") from None


def read_checksums(root: str | Path, wanted: Collection[str]) -> dict[str, str] | None:
    """Return path → SHA-256 of the `wanted` paths from a local root's SHA256SUMS, None without one.

    The format is that of sha256sum, as PhysioNet publishes it: `<hex>  <path>` a line. Only
    `wanted` is kept: MIMIC-CXR-JPG lists more than 600,000 files.
    """
    file = next((Path(root, name) for name in CHECKSUM_FILES if Path(root, name).is_file()), None)
    if file is None:
        return None
    keep = set(wanted)
    found: dict[str, str] = {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            digest, _, name = line.strip().partition(" ")
            if len(digest) != 64 or not name:
                raise InputError(
                    f"{file}: line {number} is not '<SHA-256>  <path>'; restore the file, or set "
                    "images.verify: false"
                )
            path = name.lstrip(" *").removeprefix("./")
            if path in keep:
                found[path] = digest.lower()
    return found
