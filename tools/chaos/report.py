"""What drills have found, as tables of at most 80 columns and as values for JSON.

Owns: table, summary, as_json, figures_of.
Never: a judgement; a run carries its own.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.chaos.history import PHASES, Past

_TOLD = {
    "exact": "exact",
    "inexact": "NOT EXACT",
    "unknown": "could not tell",
    "no-effect": "NO EFFECT",
    "failed": "FAILED",
}
_LEGEND = "detect: noticed; restored: state back; first batch: committed; -: did not occur"
_COLUMNS = [phase.replace("_", " ") for phase in PHASES]

Runs = Mapping[str, Sequence[Past]]
"""By fault."""


def table(runs: Sequence[Past]) -> Iterator[str]:
    """The runs of one fault, with median and worst when there are several; what verify said last is the last line."""
    yield f"{'run':<4}" + "".join(f"{name:>12}" for name in _COLUMNS) + "  verify"
    for run in runs:
        yield f"{run.run:<4}" + _cells(run.phases, 12) + f"  {_TOLD[run.verdict]}"
    if len(runs) > 1:
        for name, figures in figures_of(runs).items():
            # The names are longer than the column; the first cell has blanks to spare.
            yield f"{name:<6}" + _cells(figures, 12)[2:]
    yield _LEGEND
    yield from _remarks("run", runs)
    if runs and runs[-1].line:
        yield runs[-1].line


def summary(faults: Runs) -> Iterator[str]:
    """The runs of several faults, two lines for each; what verify said last is the last line."""
    yield f"{'fault':<17}{'exact':>6}{'':>7}" + "".join(
        f"{name.replace('first', '1st'):>10}" for name in _COLUMNS
    )
    for fault, runs in faults.items():
        exact = sum(run.verdict == "exact" for run in runs)
        for name, figures in figures_of(runs).items():
            head = f"{fault:<17}{f'{exact}/{len(runs)}':>6}" if name == "median" else f"{'':<23}"
            yield f"{head} {name:<6}" + _cells(figures, 10)
    yield _LEGEND
    for fault, runs in faults.items():
        yield from _remarks(f"{fault} run", runs)
    lines = [run.line for runs in faults.values() for run in runs if run.line]
    if lines:
        yield lines[-1]


def as_json(faults: Runs, **facts: Any) -> dict[str, Any]:
    """The same as values that json can write."""
    return {
        **facts,
        "is_exact": all(run.verdict == "exact" for runs in faults.values() for run in runs),
        "faults": [
            {
                "fault": fault,
                "runs": [
                    {
                        "run": run.run,
                        **run.phases,
                        "verdict": run.verdict,
                        "doubts": list(run.doubts),
                        "remarks": list(run.remarks),
                        "line": run.line,
                    }
                    for run in runs
                ],
                **figures_of(runs),
            }
            for fault, runs in faults.items()
        ],
    }


def figures_of(runs: Sequence[Past]) -> dict[str, dict[str, float | None]]:
    """Median and worst of every phase; None for one that never happened.

    Example:
        >>> figures_of([])["worst"]["restart"] is None
        True
    """
    seen = {
        phase: [value for run in runs if (value := run.phases.get(phase)) is not None] for phase in PHASES
    }
    return {
        "median": {phase: statistics.median(values) if values else None for phase, values in seen.items()},
        "worst": {phase: max(values, default=None) for phase, values in seen.items()},
    }


def _cells(figures: Mapping[str, float | None], width: int) -> str:
    values = (figures.get(phase) for phase in PHASES)
    return "".join(f"{'-':>{width}}" if value is None else f"{value:>{width}.2f}" for value in values)


def _remarks(name: str, runs: Sequence[Past]) -> Iterator[str]:
    for run in runs:
        for doubt in run.doubts:
            yield f"{name} {run.run}: the fault did not have its effect: {doubt}"
        for remark in run.remarks:
            yield f"{name} {run.run}: {remark}"
        yield from run.details
