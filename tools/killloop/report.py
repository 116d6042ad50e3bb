"""What kill loops have done, in plain lines.

Owns: table.
Never: a judgement.
"""

import statistics
from collections.abc import Iterator

from tools.killloop.kept import Piece
from tools.killloop.phases import PHASES


def table(piece: Piece) -> Iterator[str]:
    """What a loop, or several, have done, in plain lines."""
    yield f"{'phase':<15} {'kills':>6} {'before its first commit':>25}"
    for phase in PHASES:
        yield f"{phase:<15} {piece.kills[phase]:>6} {piece.echoes[phase]:>25}"
    yield f"{'all':<15} {piece.total:>6} {piece.echoes.total():>25}"
    yield f"in mid-batch    {piece.interrupted:>6}"
    yield f"with executors  {piece.trees:>6}"
    if piece.total:
        yield f"least backlog   {piece.least_backlog:>6} records at any kill"
    if piece.restarts:
        median, worst = statistics.median(piece.restarts), max(piece.restarts)
        yield (
            f"restarts        {len(piece.restarts):>6}, to a new commit median {median:.2f} s, worst {worst:.2f} s"
        )
    if piece.batches:
        yield f"batches         {piece.batches:>6}, {piece.records} records"
    if piece.line:
        unproven = "" if piece.is_exact or piece.mismatches else ", and a piece without a proof"
        yield f"mismatches      {piece.mismatches:>6}{unproven}"
    if piece.seconds:
        yield f"seconds         {piece.seconds:>6.0f}"
