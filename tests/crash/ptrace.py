"""A process stopped at exactly one of its writes: ptrace(2) itself, so that no tracer has to be installed.

What `strace -f -e inject=write,…:signal=SIGKILL:when=k` does, with two points more in each call: half of the data
written, and all of it. Linux on x86-64 and arm64.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

Moment = Literal["before", "torn", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "torn", "after")

SYSCALL, GETREGSET, SETREGSET, SEIZE, INTERRUPT, GET_SYSCALL_INFO = 24, 0x4204, 0x4205, 0x4206, 0x4207, 0x420E
OPTIONS = 0x1 | 0x8 | 0x100000  # stops of system calls are marked; new threads are followed; none outlives the tracer
WALL = 0x40000000
SYSCALL_STOP = signal.SIGTRAP | 0x80
EVENT_STOP = 128
PRSTATUS = 1
ENTRY = 1


class Machine(NamedTuple):
    """The numbers of the calls that write, and the place of their third argument among the registers."""

    calls: dict[int, str]
    third: int


MACHINES = {
    "x86_64": Machine(
        {
            1: "write", 18: "pwrite64", 20: "writev", 44: "sendto", 46: "sendmsg",
            74: "fsync", 75: "fdatasync", 77: "ftruncate", 87: "unlink", 296: "pwritev",
        },
        12,
    ),
    "aarch64": Machine(
        {
            64: "write", 68: "pwrite64", 66: "writev", 206: "sendto", 211: "sendmsg",
            82: "fsync", 83: "fdatasync", 46: "ftruncate", 35: "unlinkat", 70: "pwritev",
        },
        2,
    ),
}  # fmt: skip
# Calls whose third argument is the number of bytes: half of it is a torn write.
SIZED = {"write", "pwrite64", "sendto"}
REGISTERS = 34


class Point(NamedTuple):
    """The `at`-th write, or the `at`-th of those with the name `of`; and when it is struck."""

    at: int
    moment: Moment
    of: str | None = None


class Call(NamedTuple):
    """One system call that writes, seen before it does."""

    thread: int
    name: str
    arguments: tuple[int, ...]


@dataclass(slots=True)
class Tracer:
    """Watches the writes of one process that have `names`, and kills it at a point among them.

    `names` returns None for a write that does not count. The tracing thread must be the process's parent.
    """

    pid: int
    point: Point
    names: Callable[[Call], str | None]
    writes: list[str] = field(default_factory=list)
    killed: bool = False
    _met: int = 0
    _doomed: int | None = None

    def run(self, armed: Callable[[], None]) -> None:
        """Watch until the process is gone, whoever ends it.

        `armed` is called once: when every thread is watched, or when the process ends before that.
        """
        unarmed = self._seize()
        told = False
        while True:
            thread, status = os.waitpid(-1, WALL)
            ended = os.WIFEXITED(status) or os.WIFSIGNALED(status)
            if not ended:
                _ptrace(SYSCALL, thread, 0, self._stopped(thread, status))
            unarmed.discard(thread)
            over = ended and thread == self.pid
            if not told and (over or not unarmed):
                armed()
                told = True
            if over:
                return

    def _seize(self) -> set[int]:
        """All threads that live; those that are made meanwhile by one not seized yet are found by looking again."""
        seen: set[int] = set()
        seized: set[int] = set()
        while new := {int(task.name) for task in Path(f"/proc/{self.pid}/task").iterdir()} - seen:
            seen |= new
            for thread in new:
                # One that is ending, or was made by one already seized and so is watched, is not there to be seized.
                if _ptrace(SEIZE, thread, 0, OPTIONS, but=(errno.ESRCH, errno.EPERM)) == 0:
                    seized.add(thread)
                    _ptrace(INTERRUPT, thread, 0, 0)
        return seized

    def _stopped(self, thread: int, status: int) -> int:
        """What to do about a stop; returns the signal to hand on."""
        if os.WSTOPSIG(status) != SYSCALL_STOP:
            return 0 if status >> 16 else os.WSTOPSIG(status)
        if thread == self._doomed:
            self._kill()
            return 0
        call = _entered(thread)
        if call is None or self.killed or self._doomed:
            return 0
        name = self.names(call)
        if name is None:
            return 0
        self.writes.append(f"{name} {call.name}")
        if self.point.of in (None, self.writes[-1]):
            self._met += 1
            if self._met == self.point.at:
                self._strike(call)
        return 0

    def _strike(self, call: Call) -> None:
        moment = self.point.moment
        if moment == "after" or (moment == "torn" and call.name in SIZED and call.arguments[2] > 1):
            if moment == "torn":
                _set_third(call.thread, call.arguments[2] // 2)
            self._doomed = call.thread
        else:
            self._kill()

    def _kill(self) -> None:
        self.killed, self._doomed = True, None
        os.kill(self.pid, signal.SIGKILL)


@cache
def why_not() -> str | None:
    """Why nothing can be traced here, or None where it can."""
    if not sys.platform.startswith("linux"):
        return "ptrace as used here is Linux's"
    if platform.machine() not in MACHINES:
        return f"the registers of {platform.machine()} are not known here"
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        if _libc().ptrace(SEIZE, child.pid, 0, OPTIONS) != 0:
            return f"ptrace is not permitted here: {os.strerror(ctypes.get_errno())}"
    return None


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    return libc


def _ptrace(request: int, thread: int, address: int, data: int, *, but: Container[int] = (errno.ESRCH,)) -> int:
    """The answer; -1 for the errors in `but`, such as a thread that was killed meanwhile. Raises OSError for others."""
    answer = int(_libc().ptrace(request, thread, address, data))
    if answer < 0 and (code := ctypes.get_errno()) not in but:
        raise OSError(code, f"ptrace({request:#x}): {os.strerror(code)}")
    return answer


def _entered(thread: int) -> Call | None:
    """The writing call that a thread is about to make, unless it is about to do something else."""
    info = ctypes.create_string_buffer(88)
    if _ptrace(GET_SYSCALL_INFO, thread, len(info), ctypes.addressof(info)) < 0 or info.raw[0] != ENTRY:
        return None
    number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
    name = MACHINES[platform.machine()].calls.get(number)
    return None if name is None else Call(thread, name, tuple(arguments))


def _set_third(thread: int, value: int) -> None:
    """Change the third argument of the call that a thread is about to make."""
    registers = (ctypes.c_uint64 * REGISTERS)()
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(registers), ctypes.sizeof(registers))
    if _ptrace(GETREGSET, thread, PRSTATUS, ctypes.addressof(vector)) < 0:
        return
    registers[MACHINES[platform.machine()].third] = value
    _ptrace(SETREGSET, thread, PRSTATUS, ctypes.addressof(vector))
