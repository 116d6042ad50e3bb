"""Appends one record that no job can decode; what is done with it is the engine's business.

    python -m services.producer.poison --topic ad-events --partition 0

Owns: the command.
Never: an event.
"""

import sys

import click

from engine.clock import SystemClock
from engine.errors import SourceError
from services.producer import kafka_sink, log_sink
from services.settings import exit_code, load_settings


@click.command()
@click.option("--topic", required=True)
@click.option("--partition", type=click.IntRange(min=0), required=True)
@click.option("--value", default="{poison", help="Its bytes, as text.")
def command(topic: str, partition: int, value: str) -> None:
    """Append one undecodable record to a partition and say where it lies.

    The embedded log has one writer, so its producer must be stopped first.

    Exit codes: 0 appended, 2 refused, with the reason in one sentence.
    """
    settings, now_ms = load_settings(), SystemClock().wall_ms()
    try:
        if settings.stack == "embedded":
            offset = log_sink.append_record(settings.log_dir, topic, partition, value.encode(), now_ms)
        else:
            offset = kafka_sink.append_record(
                settings.kafka_bootstrap, topic, partition, value.encode(), now_ms
            )
    except OSError as error:
        raise SourceError(
            f"nothing was appended to {topic}[{partition}]: {error}; try again when it answers"
        ) from error
    click.echo(f"{topic}[{partition}] has an undecodable record at offset {offset}")


if __name__ == "__main__":
    sys.exit(exit_code(command.main))
