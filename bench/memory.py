"""What the service weighs after its load, and how soon it served."""

from __future__ import annotations

from bench.report import Aim, Part, number
from bench.subjects import Field

AIM_MB, AIM_SECONDS = 150.0, 3.0


def run(field: Field) -> Part:
    """Resident memory now, after whatever was run on this field, and the start's time to the first ready answer."""
    rows = tuple((one.name, number(one.resident_mb()), number(one.ready_seconds)) for one in field.subjects)
    aims: tuple[Aim, ...] = ()
    if field.service:
        resident, ready = field.service.resident_mb(), field.service.ready_seconds
        aims = (
            Aim(f"resident after the load, {field.kind}: ≤ 150 MB", f"{resident:.0f} MB", resident <= AIM_MB),
            Aim(f"serving after the start, {field.kind}: ≤ 3 s", f"{ready:.1f} s", ready <= AIM_SECONDS),
        )
    return Part(f"Memory and start, {field.kind}", ("", "resident MB", "ready after s"), rows, aims)
