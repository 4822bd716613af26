"""Where the writes of a process go."""

from pathlib import Path

from tests.crash.ptrace import Call

ESTABLISHED = "01"


class Names:
    """Whom a write of a process goes to: a file by its name, a socket by the port at either of its ends."""

    def __init__(self, pid: int, ports: dict[str, int], files: dict[str, str]) -> None:
        self._pid = pid
        self._ports = {port: name for name, port in ports.items()}
        self._files = {path: name for name, path in files.items()}
        self._sockets: dict[str, str | None] = {}

    def __call__(self, call: Call) -> str | None:
        """None for whatever is not named."""
        try:
            target = str(Path(f"/proc/{self._pid}/fd/{call.arguments[0]}").readlink())
        except OSError:
            return None
        if not target.startswith("socket:"):
            return self._files.get(target)
        if target not in self._sockets:
            self._sockets[target] = self._find(target[8:-1])
        return self._sockets[target]

    def _find(self, inode: str) -> str | None:
        for line in Path(f"/proc/{self._pid}/net/tcp").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[9] == inode and fields[3] == ESTABLISHED:
                ends = (int(fields[end].rpartition(":")[2], 16) for end in (1, 2))
                return next((self._ports[port] for port in ends if port in self._ports), None)
        return None
