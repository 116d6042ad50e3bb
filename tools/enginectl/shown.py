"""How the replicas and their units look on a terminal, in 80 columns.

Owns: show.
Never: a request.
"""

from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from services.pipeline.control import Desired, is_drained
from tools.enginectl.changes import is_silent
from tools.enginectl.client import Replica, Status

WIDTH: Final = 80
_COLOURS: Final = {"running": "green", "member": "green", "paused": "dim", "drained": "dim"}


def show(status: Status, now_ms: int) -> None:
    """Print how all of it stands.

    Args:
        status: as a replica told it.
        now_ms: milliseconds since the epoch.
    """
    console = Console(width=WIDTH, highlight=False)
    generation = "" if status.generation is None else f", generation {status.generation}"
    console.print(f"told by {status.name}: {status.state or 'a replica'}{generation}", markup=False)
    console.print(_units(status, now_ms), "", _replicas(status), sep="\n")


def _units(status: Status, now_ms: int) -> RenderableType:
    table = _table("unit", "owner", "state", "lag", "since", "restarts")
    for unit in status.units:
        executors = status.desired.executors.get(unit.unit)
        table.add_row(
            unit.unit,
            unit.owner or "-",
            _coloured(unit.state + (f", {executors.number} ex." if executors else "")),
            "-" if unit.lag is None else f"{unit.lag:,}",
            "-" if unit.since is None else duration((now_ms - unit.since) / 1_000),
            "-" if unit.restarts is None else str(unit.restarts),
        )
    return table


def _replicas(status: Status) -> RenderableType:
    table = _table("replica", "state", "told", "units")
    for replica in status.replicas:
        held = [unit.unit for unit in status.units if unit.owner == replica.name]
        table.add_row(
            replica.name,
            _coloured(_state(replica, status.desired)),
            f"{replica.ago_ms / 1_000:.1f}s ago" if not is_silent(replica) else _ago(replica),
            ", ".join(held) or "-",
        )
    return table


def _state(replica: Replica, desired: Desired) -> str:
    """What a replica says of itself, unless it is known better."""
    if is_silent(replica):
        return "silent"
    return "drained" if is_drained(desired, replica.name) and replica.state == "member" else replica.state


def _ago(replica: Replica) -> str:
    return f"{duration(replica.ago_ms / 1_000)} ago"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            overflow="fold",
            no_wrap=column in {"lag", "since", "told", "restarts"},
            justify="right" if column in {"lag", "restarts"} else "left",
        )
    return table


def _coloured(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state.split(",", maxsplit=1)[0], "yellow"))


def duration(seconds: float) -> str:
    """A length of time in at most two units; none is shorter than nothing, whatever two clocks say.

    Example:
        >>> [duration(seconds) for seconds in (-1, 3.2, 75, 3_700, 200_000)]
        ['0s', '3s', '1m15s', '1h01m', '2d07h']
    """
    minutes, rest = divmod(max(int(seconds), 0), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}m{rest:02}s"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h" if days else f"{hours}h{minutes:02}m"
