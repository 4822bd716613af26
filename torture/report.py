"""The verdict in words."""

from collections import Counter

from torture.checker import KINDS, Verdict

MOST_SHOWN = 12


def report(verdict: Verdict, title: str) -> str:
    """What was done, what was found, and how sure that makes one."""
    found = Counter(finding.kind for finding in verdict.findings)
    struck, hits = verdict.struck.total(), verdict.hits.total()
    lines = [
        f"Torture: {title}",
        f"  turns       {verdict.turns} accepted: {_listed(verdict.outcomes)}",
        f"  ended as    {_listed(verdict.statuses)}",
        f"  provider    {verdict.modes.total()} calls in {len(verdict.modes)} modes",
        f"  faults      {struck}, of which {hits} hit a live turn",
        *(f"    {verdict.hits[name]:>4} of {times:>4}  {name}" for name, times in sorted(verdict.struck.items())),
        f"  violations  {_listed(Counter({kind: found[kind] for kind in KINDS}))}",
    ]
    for kind in KINDS:
        some = [finding.what for finding in verdict.findings if finding.kind == kind]
        lines += [f"    {kind}: {what}" for what in some[:MOST_SHOWN]]
        lines += [f"    {kind}: and {len(some) - MOST_SHOWN} more"] * (len(some) > MOST_SHOWN)
    if verdict.turns and not verdict.findings:
        lines.append(f"  bound       none in {verdict.turns} turns: below {3 / verdict.turns:.2e} a turn (3/n, 95 %)")
    return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{times} {name}" for name, times in counts.items()) or "none"
