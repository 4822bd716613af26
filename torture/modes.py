"""What the provider does to a call: answers well, slowly, oddly or not at all; which one is chosen by the seed."""

from dataclasses import dataclass
from typing import Literal

from torture.plan import dice

Span = tuple[float, float]
Shape = Literal["frames", "one", "split", "drip", "crlf"]
Usage = Literal["once", "none", "twice", "absurd"]
# How an answer ends, where it does not end well: `at` says after how much of it.
End = Literal["whole", "close", "reset", "stop", "stall", "garbage", "error", "chunk"]
At = Literal["start", "middle", "finish"]


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to be asked. `weight` is how often, `wait` seconds pass before the first byte, `pace` between words.

    `shape` is how the frames are cut into writes: one by one, all at once, at odd places, byte for byte, or with CRLF.
    """

    name: str
    weight: int
    words: tuple[int, int] = (2, 8)
    wait: Span = (0, 0)
    pace: Span = (0, 0)
    shape: Shape = "frames"
    status: int = 200
    usage: Usage = "once"
    finish: str = "stop"
    end: End = "whole"
    at: At = "middle"
    kind: str = "text/event-stream"
    thinks: bool = False
    dirty: bool = False


BUSY: Span = (0.005, 0.04)
MODES = (
    Mode("plain", 120),
    Mode("paced", 330, words=(4, 14), pace=BUSY),
    Mode("long", 70, words=(30, 60), pace=(0.01, 0.03)),
    Mode("late", 60, wait=(0.2, 0.9)),
    Mode("at_once", 50, words=(3, 30), shape="one"),
    Mode("split", 60, shape="split", pace=(0, 0.005)),
    Mode("dripping", 30, words=(2, 4), shape="drip"),
    Mode("crlf", 30, shape="crlf", pace=BUSY),
    Mode("thinking", 30, thinks=True, pace=BUSY),
    Mode("length", 20, finish="length", pace=BUSY),
    Mode("filter", 10, finish="content_filter"),
    Mode("no_usage", 30, usage="none"),
    Mode("usage_twice", 30, usage="twice"),
    Mode("usage_absurd", 10, usage="absurd"),
    Mode("dirty", 20, dirty=True),
    Mode("cut_after_the_end", 15, pace=BUSY, end="close", at="finish", usage="none"),
    Mode("limited", 20, status=429),
    Mode("broken", 20, status=500),
    Mode("unavailable", 10, status=503),
    Mode("overloaded", 15, status=529),
    Mode("refusing", 8, status=400),
    Mode("denying", 5, status=401),
    Mode("elsewhere", 4, status=307),
    Mode("page", 6, kind="text/html"),
    Mode("closed_at_once", 10, end="close", at="start"),
    Mode("reset_at_once", 12, end="reset", at="start"),
    Mode("closed", 20, words=(4, 12), pace=BUSY, end="close"),
    Mode("reset", 15, words=(4, 12), pace=BUSY, end="reset"),
    Mode("truncated", 15, words=(4, 12), pace=BUSY, end="stop"),
    Mode("garbage", 12, words=(4, 12), pace=BUSY, end="garbage"),
    Mode("error_inside", 12, words=(4, 12), pace=BUSY, end="error"),
    Mode("bad_chunk", 8, words=(4, 12), pace=BUSY, end="chunk"),
    Mode("mute", 6, wait=(30, 30)),
    Mode("silent", 6, end="stall", at="start"),
    Mode("stalled", 8, words=(4, 12), pace=BUSY, end="stall"),
    Mode("endless", 8, words=(1_000_000, 1_000_000), pace=(0.02, 0.05)),
)
BY_NAME = {mode.name: mode for mode in MODES}
_WEIGHTS = [mode.weight for mode in MODES]


def choose(seed: int, tag: int, number: int) -> Mode:
    """The mode of the n-th call for a turn: its first and its second attempt may fare differently."""
    return dice(seed, "mode", tag, number).choices(MODES, _WEIGHTS)[0]
