"""Readers that stop reading: sockets that take nothing from the service until they are told to go on."""

import socket
from types import TracebackType
from typing import Self

from tests.evidence.client import Seen, head_of, read

BUFFER = 32 * 1024


class Reader:
    """A GET of which the first bytes are read, and the rest when somebody asks for it."""

    def __init__(self, port: int, path: str, key: str) -> None:
        self._socket = socket.socket()
        # Small, so that what is not read stays with the service.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._socket.settimeout(60)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(head_of("GET", path, key=key))
        self._got = self._socket.recv(1024)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def more(self, size: int) -> None:
        """Read on until so many bytes have come."""
        left = size - len(self._got)
        while left > 0 and (part := self._socket.recv(min(left, BUFFER))):
            left -= len(part)

    def rest(self) -> Seen:
        """Read on to the end."""
        parts = [self._got]
        while part := self._socket.recv(1024 * 1024):
            parts.append(part)
        return read(b"".join(parts))
