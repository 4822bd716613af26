"""A client that keeps every byte that it was sent: plain sockets, and its own reading of HTTP/1.1."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Seen:
    """What came of one request. `whole` is False where the connection ended before the answer did."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def completion_id(self) -> int | None:
        """The turn that was acknowledged; None where no answer came so far as to name it."""
        if (named := self.headers.get("everturn-completion-id")) is not None:
            return int(named)
        return int(self.json()["completion_id"]) if self.whole and self.status == 201 else None


def ask(
    port: int, method: str, path: str, body: object = None, *, key: str, headers: Mapping[str, str] | None = None
) -> Seen:
    """Send one request on a new connection, and read until the answer or the connection ends."""
    data = b"" if body is None else json.dumps(body).encode()
    about = {"content-type": "application/json", "content-length": str(len(data))} if data else {}
    request = head_of(method, path, key=key, headers={**about, **(headers or {})}) + data
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request)
            return read(_everything(connection))
    except ConnectionError:
        return Seen()


def head_of(method: str, path: str, *, key: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes before a request's body."""
    fields = {"host": "service", "authorization": f"Bearer {key}", "connection": "close", **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def _everything(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def read(raw: bytes) -> Seen:
    """An answer as far as it came."""
    head, ended, rest = raw.partition(b"\r\n\r\n")
    if not ended:
        return Seen()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    seen = Seen(int(first.split(" ")[1]), headers)
    if headers.get("transfer-encoding") == "chunked":
        seen.body, seen.whole = _unchunked(rest)
    else:
        length = int(headers.get("content-length", 0))
        seen.body, seen.whole = rest[:length], len(rest) >= length
    return seen


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """The content of the chunks, of the last one as far as it came, and whether the last chunk of all came."""
    body = b""
    while True:
        size, ended, data = data.partition(b"\r\n")
        if not ended:
            return body, False
        length = int(size, 16)
        if length == 0:
            return body, True
        body += data[:length]
        if len(data) < length + 2:
            return body, False
        data = data[length + 2 :]
