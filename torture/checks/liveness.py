"""Nothing hangs: when all is healed and settled, no turn, message or attempt is on its way any more."""

from collections.abc import Iterator

from torture.evidence import Evidence, Finding

OPEN = ("queued", "in_progress")


def check(evidence: Evidence) -> Iterator[Finding]:
    """stuck, unexpected."""
    for row in evidence.completions:
        if row.status in OPEN:
            yield Finding("stuck", f"completion {row.id} is still {row.status}, epoch {row.epoch}")
    for alarm in evidence.alarms:
        yield Finding("unexpected", f"in the log of {alarm}")
    for one in evidence.exits:
        if one.code:
            yield Finding("unexpected", f"{one.target} was told to end and ended with {one.code}")
    for message in evidence.messages:
        if message.status in OPEN:
            yield Finding("stuck", f"message {message.id} is still {message.status}")
    for attempt in evidence.attempts:
        if attempt.status in OPEN:
            yield Finding("stuck", f"attempt {attempt.number} of completion {attempt.completion_id} never ended")
