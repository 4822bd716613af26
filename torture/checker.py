"""The verdict: every check on the evidence of a run, and the figures that say what the run was worth."""

from collections import Counter
from dataclasses import dataclass

from torture.checks import accounts, answers, liveness, prompts, rollups, streams, turns
from torture.evidence import Evidence, Fault, Finding

CHECKS = (turns, answers, streams, prompts, accounts, rollups, liveness)
# In Jepsen's words as far as they go: diverged is read twice and not the same, misordered a prompt that is no history.
KINDS = ("lost", "duplicated", "unexpected", "stuck", "gap", "diverged", "misordered", "unaccounted")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `hits` are the faults that hit a live turn, by their name; `struck` all of them."""

    findings: list[Finding]
    outcomes: Counter[str]
    statuses: Counter[str]
    modes: Counter[str]
    struck: Counter[str]
    hits: Counter[str]

    @property
    def turns(self) -> int:
        """Turns that were accepted."""
        return self.outcomes["ok"] + self.outcomes["recovered"] + self.outcomes["lost"]


def judge(evidence: Evidence) -> Verdict:
    """Every broken promise, and what the run did."""
    return Verdict(
        findings=[finding for check in CHECKS for finding in check.check(evidence)],
        outcomes=Counter(turns.outcome(evidence, ask) for ask in evidence.asks),
        statuses=Counter(_status(evidence, row.id, row.status) for row in evidence.completions),
        modes=Counter(call.mode for call in evidence.calls),
        struck=Counter(fault.fault for fault in evidence.faults),
        hits=Counter(fault.fault for fault in evidence.faults if hit(evidence, fault)),
    )


def hit(evidence: Evidence, fault: Fault) -> bool:
    """Whether an accepted turn was unfinished on what was hit: a call of a worker's to the provider was open then.

    A call is made for accepted turns only, and a turn is unfinished before, during and for a moment after its call.
    """
    if fault.target == "clients":
        return any(one.t < fault.t < one.until and one.tag is not None for one in evidence.exchanges)
    everybody = fault.target in ("all", "database")
    return any(
        call.t < fault.t < call.until and (everybody or call.worker == fault.target) and call.tag in evidence.asked
        for call in evidence.calls
    )


def _status(evidence: Evidence, completion: int, status: str) -> str:
    return status if len(evidence.attempts_of[completion]) < 2 else f"{status}, after several attempts"
