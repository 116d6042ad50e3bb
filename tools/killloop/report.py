"""What a kill loop has done, in plain lines.

Owns: table.
Never: a judgement.
"""

import statistics
from collections.abc import Iterator

from tools.killloop.loop import Tally
from tools.killloop.phases import PHASES, REQUIRED


def table(tally: Tally) -> Iterator[str]:
    """What the loop has done, in plain lines."""
    yield f"{'phase':<15} {'kills':>6} {'before its first commit':>25}"
    for phase in PHASES:
        if tally.kills[phase] or tally.echoes[phase] or phase in REQUIRED:
            yield f"{phase:<15} {tally.kills[phase]:>6} {tally.echoes[phase]:>25}"
    yield f"{'all':<15} {tally.total:>6} {tally.echoes.total():>25}"
    yield f"in mid-batch    {tally.interrupted:>6}"
    yield f"with executors  {tally.trees:>6}"
    yield f"least backlog   {tally.least_backlog:>6} records at any kill"
    restarts = tally.recovered[1:]
    if restarts:
        median, worst = statistics.median(restarts), max(restarts)
        yield f"restarts        {len(restarts):>6}, to a new commit median {median:.2f} s, worst {worst:.2f} s"
    if tally.verdict and tally.verdict.ledger:
        yield f"batches         {tally.verdict.ledger.batches:>6}, {tally.verdict.ledger.records} records"
    if tally.verdict:
        yield f"mismatches      {tally.verdict.missing + tally.verdict.over + tally.verdict.wrong:>6}"
