"""`python -m tools.cluster simulate`: what sharing many units among many replicas takes, and moves.

Owns: the command.
Never: a broker.
"""

import click
from rich.console import Console
from rich.table import Table

from tools.cluster.simulation import changes

_WIDTH = 80


@click.group()
def command() -> None:
    """Try what replicas of the engine would do."""


@command.command()
@click.option("--replicas", default=100, show_default=True, type=click.IntRange(2))
@click.option("--units", default=10_000, show_default=True, type=click.IntRange(1))
def simulate(replicas: int, units: int) -> None:
    """Share units among replicas that come and go, with the assignor of real ones and no broker."""
    table = Table(title=f"{units:,} units, {replicas:,} replicas at first")
    table.add_column("change")
    for name in ("members", "ms", "moved", "needed", "units each", "bytes told"):
        table.add_column(name, justify="right")
    for change in changes(replicas, units):
        each = f"{change.fewest}" if change.fewest == change.most else f"{change.fewest}-{change.most}"
        table.add_row(
            change.name,
            f"{change.members}",
            f"{change.seconds * 1_000:.1f}",
            f"{change.moved:,}",
            f"{change.needed:,}",
            each,
            f"{change.largest_claim:,}",
        )
    Console(width=_WIDTH).print(table)


if __name__ == "__main__":
    command(prog_name="python -m tools.cluster")
