"""The relay before the stores: passes requests on, counts them, and misbehaves as lab/storage/faults.py describes.

Runs as `python -m lab.storage.relay FOLDER LISTEN NAME:PORT:UPSTREAM_HOST:UPSTREAM_PORT:http|tcp ...` until it is
ended; its control socket lies in FOLDER.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

from lab.storage import http
from lab.storage.faults import SOCKET, Counts, Faults, Request

KEPT_REQUESTS = 5000
ANSWERED_SECONDS = 5  # how long an upload may go on after its answer
LIST_WORDS = ("list-type=", "prefix=", "delimiter=", "versions", "uploads")


class Cut(Exception):
    """The connection has to be reset now."""


def kind_of(method: str, target: str) -> str:
    """The method, or LIST for a GET that lists: S3 asks by query, a REST server by a path that ends with /."""
    path, _, query = target.partition("?")
    listing = any(part.startswith(LIST_WORDS) for part in query.split("&")) or (
        path.endswith("/") and not query
    )
    return "LIST" if method == "GET" and listing else method


def shifted(date: str, seconds: int) -> str:
    """An HTTP date, some seconds later."""
    return format_datetime(parsedate_to_datetime(date) + timedelta(seconds=seconds), usegmt=True)


def error_answer(status: int, code: str, head_only: bool) -> bytes:
    """An S3 error; REST servers' clients read only its status."""
    text = f"<Error><Code>{code}</Code><Message>the lab said so</Message></Error>".encode()
    lines = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n"
    head = f"{lines}Date: {format_datetime_now()}\r\nConnection: close\r\n\r\n".encode()
    return head if head_only else head + text


def format_datetime_now() -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())


class Endpoint:
    """One way to one store, with its faults and what it counted."""

    def __init__(self, name: str, upstream: tuple[str, int], http_spoken: bool) -> None:
        self.name = name
        self.upstream = upstream
        self.http_spoken = http_spoken
        self.answering = asyncio.Event()
        self.open: set[asyncio.StreamWriter] = set()
        self.free_at = 0.0
        self.set(Faults())
        self.reset()

    def set(self, faults: Faults) -> None:
        self.faults = faults
        self.matched = self.failed = self.cuts = self.stored = self.passed = 0
        (self.answering.clear if faults.hang else self.answering.set)()

    def reset(self) -> None:
        self.counts = Counts()
        self.requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)

    def matches(self, kind: str, target: str) -> bool:
        return (not self.faults.kinds or kind in self.faults.kinds) and self.faults.path in target

    def refusal(self, kind: str, target: str, length: int) -> tuple[int, str] | None:
        """Status and S3 code this request gets instead of the store's answer, if any."""
        faults = self.faults
        if faults.full_after >= 0 and kind in ("PUT", "POST") and length > 0:
            if self.stored + length > faults.full_after:
                return faults.full_status, "InsufficientStorage"
            self.stored += length
        if not faults.fail_status or not self.matches(kind, target):
            return None
        if faults.fail_times and self.failed >= faults.fail_times:
            return None
        self.matched += 1
        due = int(self.matched * faults.fail_share + 1e-9)  # an exact share: chance would make tests flicker
        if self.failed >= due:
            return None
        self.failed += 1
        return faults.fail_status, faults.fail_code

    def note(self, request: Request, faulted: bool) -> None:
        self.requests.append(request)
        self.counts.faulted += faulted
        self.counts.sent += request.sent
        self.counts.received += request.received
        status = str(request.status)
        self.counts.statuses[status] = self.counts.statuses.get(status, 0) + 1

    async def unstuck(self) -> None:
        """Returns at once unless nothing is answered: then at the end of that, and what was stuck is lost."""
        if not self.answering.is_set():
            await self.answering.wait()
            raise Cut

    async def passing(self, size: int) -> None:
        """Waits as long as so many bytes take."""
        self.passed += size
        if 0 <= self.faults.hang_after < self.passed:
            self.answering.clear()
        await self.unstuck()
        if self.faults.bandwidth:
            now = time.monotonic()
            self.free_at = max(now, self.free_at) + size / self.faults.bandwidth
            await asyncio.sleep(self.free_at - now)

    def cut_all(self) -> int:
        for writer in self.open:
            abort(writer)
        return len(self.open)


def abort(writer: asyncio.StreamWriter) -> None:
    """Resets a connection, as a pulled cable and a rebooted router do."""
    with suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()


class Exchange:
    """One request on its way: what has passed, and whether the connection is due to be cut."""

    def __init__(self, endpoint: Endpoint, kind: str, target: str) -> None:
        self.endpoint = endpoint
        self.kind, self.target = kind, target
        self.sent = self.received = self.status = 0
        self.faulted = False
        self.begin = time.monotonic()
        matched = endpoint.matches(kind, target)
        self.latency = endpoint.faults.latency if matched else 0.0
        self.cuttable = matched

    def must_cut(self) -> bool:
        faults = self.endpoint.faults
        over = faults.cut_after >= 0 and self.sent + self.received >= faults.cut_after
        return over and self.cuttable and not (faults.cut_times and self.endpoint.cuts >= faults.cut_times)

    async def copy(self, pieces: AsyncIterable[bytes], writer: asyncio.StreamWriter, up: bool) -> None:
        """Passes a body on, as fast and as far as the faults allow."""
        async for piece in pieces:
            await self.endpoint.passing(len(piece))
            if up:
                self.sent += len(piece)
            else:
                self.received += len(piece)
            if self.must_cut():
                self.endpoint.cuts += 1
                self.faulted = True
                raise Cut
            writer.write(piece)
            await writer.drain()

    def close(self) -> None:
        seconds = round(time.monotonic() - self.begin, 4)
        request = Request(self.kind, self.target, self.status, self.sent, self.received, seconds)
        self.endpoint.note(request, self.faulted)


async def serve_http(endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every request of one connection, one after the other."""
    while head := await http.read_head(reader):
        kind = kind_of(head.method, head.target)
        exchange = Exchange(endpoint, kind, head.target)
        endpoint.counts.kinds[kind] = endpoint.counts.kinds.get(kind, 0) + 1
        try:
            if not await one_request(exchange, head, reader, writer):
                return
        finally:
            exchange.close()


async def one_request(
    exchange: Exchange, head: http.Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Answers one request; returns whether the connection may carry another one."""
    await exchange.endpoint.unstuck()
    if exchange.latency:
        await asyncio.sleep(exchange.latency)
    length = http.request_length(head)
    refused = exchange.endpoint.refusal(exchange.kind, exchange.target, length)
    if refused:
        exchange.status, exchange.faulted = refused[0], True
        if not head.get("expect"):  # a client that sends without asking first reads the answer afterwards
            async for _ in http.body(reader, length):
                pass
        writer.write(error_answer(*refused, head.method == "HEAD"))
        await writer.drain()
        return False
    store_reader, store_writer = await asyncio.open_connection(
        *exchange.endpoint.upstream, limit=http.HEAD_LIMIT
    )
    try:
        store_writer.write(head.encode())
        upload = asyncio.create_task(exchange.copy(http.body(reader, length), store_writer, up=True))
        try:
            again = await pass_answer(exchange, head.method, store_reader, writer, upload)
            await asyncio.wait({upload}, timeout=ANSWERED_SECONDS)
            return again and upload.done() and not head.closes
        finally:
            upload.cancel()
    finally:
        store_writer.close()


async def pass_answer(
    exchange: Exchange,
    method: str,
    store: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    upload: asyncio.Task[None],
) -> bool:
    """Passes the store's answer on; returns whether the connection may carry another request."""
    while True:
        answer = await head_while_sending(store, upload)
        if answer.status >= 200:
            break
        writer.write(answer.encode())  # 100 Continue
    shift = exchange.endpoint.faults.date_shift
    if shift and answer.get("date"):
        answer = answer.replaced("date", shifted(answer.get("date"), shift))
    exchange.status = answer.status
    length = http.answer_length(answer, method)
    await exchange.endpoint.passing(0)
    writer.write(answer.encode())
    await exchange.copy(http.body(store, length), writer, up=False)
    await writer.drain()
    return length != http.UNTIL_CLOSE and not answer.closes


async def head_while_sending(store: asyncio.StreamReader, upload: asyncio.Task[None]) -> http.Head:
    """The store's next head, which may come before the upload is done; raises what ended an upload early."""
    reading = asyncio.ensure_future(http.read_head(store))
    try:
        while not reading.done():
            sending = set() if upload.done() else {upload}
            done, _ = await asyncio.wait({reading, *sending}, return_when=asyncio.FIRST_COMPLETED)
            if upload in done and not reading.done():
                upload.result()
        answer = reading.result()
    finally:
        reading.cancel()
    if answer is None:
        raise Cut
    return answer


async def serve_tcp(endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes bytes both ways until either side closes; the whole connection counts as one request."""
    exchange = Exchange(endpoint, "CONNECT", "")
    endpoint.counts.kinds["CONNECT"] = endpoint.counts.kinds.get("CONNECT", 0) + 1
    try:
        await endpoint.unstuck()
        await asyncio.sleep(exchange.latency)
        store_reader, store_writer = await asyncio.open_connection(*endpoint.upstream)
        ways = [
            asyncio.create_task(exchange.copy(http.body(reader, http.UNTIL_CLOSE), store_writer, up=True)),
            asyncio.create_task(exchange.copy(http.body(store_reader, http.UNTIL_CLOSE), writer, up=False)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            store_writer.close()
    finally:
        exchange.close()


async def serve(endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, from its beginning to its end."""
    endpoint.open.add(writer)
    try:
        await (serve_http if endpoint.http_spoken else serve_tcp)(endpoint, reader, writer)
    except (Cut, OSError, ValueError, asyncio.LimitOverrunError):
        abort(writer)
    finally:
        endpoint.open.discard(writer)
        writer.close()


def obey(endpoints: dict[str, Endpoint], request: dict[str, Any]) -> Any:
    """Does what the control asks for. Raises KeyError for an endpoint or order that is not there."""
    order = request["order"]
    if order == "endpoints":
        return sorted(endpoints)
    endpoint = endpoints[request["endpoint"]]
    if order == "set":
        faults = request["faults"]
        return endpoint.set(Faults(**{**faults, "kinds": tuple(faults.get("kinds", ()))}))
    simple: dict[str, Callable[[], Any]] = {
        "reset": endpoint.reset,
        "cut": endpoint.cut_all,
        "counts": lambda: asdict(endpoint.counts),
        "requests": lambda: [list(asdict(row).values()) for row in endpoint.requests],
    }
    return simple[order]()


async def control(
    endpoints: dict[str, Endpoint], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One order from the control socket."""
    try:
        answer = {"answer": obey(endpoints, json.loads(await reader.readline()))}
    except (KeyError, TypeError, ValueError) as error:
        answer = {"error": repr(error)}
    writer.write(json.dumps(answer).encode() + b"\n")
    with suppress(OSError):
        await writer.drain()
    writer.close()


def control_socket(folder: Path) -> socket.socket:
    """The control socket, bound by a short name (a socket's address has room for 108 bytes)."""
    (folder / SOCKET).unlink(missing_ok=True)
    number = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    listener.bind(f"/proc/self/fd/{number}/{SOCKET}")
    os.umask(old)
    os.close(number)
    return listener


async def main(folder: Path, listen: str, wanted: list[str]) -> None:
    endpoints: dict[str, Endpoint] = {}
    servers = []
    for text in wanted:
        name, port, host, upstream_port, kind = text.split(":")
        endpoint = Endpoint(name, (host, int(upstream_port)), kind == "http")
        endpoints[name] = endpoint

        def handle(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, endpoint: Endpoint = endpoint
        ) -> Any:
            return serve(endpoint, reader, writer)

        servers.append(await asyncio.start_server(handle, listen, int(port), limit=http.HEAD_LIMIT))

    def order(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        return control(endpoints, reader, writer)

    servers.append(await asyncio.start_unix_server(order, sock=control_socket(folder)))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
