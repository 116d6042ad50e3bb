"""Runs the pipeline's engine with one thing wrong: `python -m tools.chaos.demos counters`.

Owns: command.
Never: a difference to the engine of `services.pipeline.main` but that one.
"""

from collections.abc import Mapping

import click

from services.pipeline import main
from tools.chaos.demos import counters, no_checkpoint, processing_time

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "no-checkpoint": no_checkpoint.PARTS,
    "counters": counters.PARTS,
    "processing-time": processing_time.PARTS,
}
"""By name the parts of services.pipeline.main that are replaced."""


@click.command()
@click.argument("name", type=click.Choice(list(VARIANTS)))
def command(name: str) -> None:
    """Run the pipeline's jobs until SIGTERM, wrongly.

    All settings are environment variables; see `services/settings.py`.
    """
    vars(main).update(VARIANTS[name])
    main.command(args=[])


if __name__ == "__main__":
    command()
