"""Makes the topics and brings the results store to the newest schema; `python -m services.migrate` is the stack's one init step.

Owns: prepare.
Never: DROP; a topic that is there with another partition count.
"""

import sys

import click

from engine.clock import SystemClock
from engine.errors import ConfigurationError, StreamingError
from services.cassandra import migrate as cassandra_schema
from services.settings import Settings, exit_code, load_settings
from services.sqlite import migrate as sqlite_schema
from services.topics import create_topics, topics

_CLOCK = SystemClock()


def prepare(settings: Settings, *, wait_seconds: float = 0.0) -> list[str]:
    """Make what is missing, and return it: one line for the topics, one for the schema; a second call changes nothing.

    Args:
        settings: of the stack.
        wait_seconds: how long to wait for each server to answer.

    Raises:
        ConfigurationError: a topic has another partition count, an applied migration has changed, or the store is newer.
        StreamingError: a server does not answer or refuses.
    """
    _make_topics(settings, wait_seconds)
    if settings.stack == "embedded":
        done = sqlite_schema.migrate(settings.results_path)
    else:
        done = cassandra_schema.migrate(
            settings.cassandra_hosts, settings.cassandra_port, settings.keyspace, wait_seconds=wait_seconds
        )
    return [
        ", ".join(f"{topic.name}: {topic.partitions} partitions" for topic in topics(settings)),
        f"schema: {', '.join(step.name for step in done) or 'nothing to do'}",
    ]


def _make_topics(settings: Settings, wait_seconds: float) -> None:
    """Make the topics; a broker that does not answer, which takes seconds to find out, is asked again until the time is over."""
    deadline = _CLOCK.monotonic() + wait_seconds
    while True:
        try:
            create_topics(settings)
        except ConfigurationError:
            raise
        except StreamingError:
            if _CLOCK.monotonic() >= deadline:
                raise
        else:
            return


def _run(wait_seconds: float) -> None:
    for line in prepare(load_settings(), wait_seconds=wait_seconds):
        click.echo(line)


@click.command()
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for each server to answer.")
def command(wait: float) -> None:
    """Make topics and tables where they are missing; it never drops anything.

    Exit codes: 0 done, 1 no answer, 2 refused, with the reason in one sentence.
    """
    sys.exit(exit_code(lambda: _run(wait)))


if __name__ == "__main__":
    command()
