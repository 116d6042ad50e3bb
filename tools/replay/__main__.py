"""The command line of replay; `scripts/replay` runs it.

Owns: command.
Never: a rule of what is sent.
"""

import fcntl
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import click

from engine.clock import SystemClock
from engine.errors import ConfigurationError, StreamingError
from services.pipeline.main import store_of
from services.settings import Settings, exit_code, load_settings
from tools.numbers import Whole
from tools.replay.letters import REPLAYS, Letter, Mark, Mend, Replayer, Topics
from tools.replay.topics import KafkaTopics, LogTopics
from tools.verify import proof
from tools.verify.schema import REPLAYED_LETTERS, TABLES
from tools.verify.verdict import CannotTellError


@click.command(context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]})
@click.option("--topic", help="Only letters of this topic.")
@click.option("--partition", type=Whole(min=0), help="Only letters of this partition.")
@click.option("--offset", "offsets", type=Whole(min=0), multiple=True, help="Only letters of these offsets.")
@click.option("--reason", default="", help="Only letters whose reason begins so: undecodable, late, failed.")
@click.option(
    "--mend",
    metavar="COMMAND",
    help="Gets each value on standard input and gives the one to send; a letter for which it fails or gives nothing is left. "
    "TOPIC, PARTITION, OFFSET and REASON are in its environment. Without it the same bytes are sent. With a stack in containers it "
    "runs in the image of verify, which has Python and sh, and none of this machine's files.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
def command(
    topic: str | None,
    partition: int | None,
    offsets: Sequence[int],
    reason: str,
    mend: str | None,
    *,
    dry_run: bool,
) -> None:
    """Send dead letters to the end of their own partitions again, mended or as they were.

    Each letter is sent once: what was sent is marked in the table `replays`, so a second replay sends none of it. The letters
    stay where they are. A letter that was sent again as it was and came late again is left: only other bytes can help it. STACK, DATA_DIR, KAFKA_BOOTSTRAP, CASSANDRA_HOSTS, CASSANDRA_PORT and KEYSPACE say where. With the embedded
    log the producer must be stopped, as a partition has one writer. One replay runs at a time; a second one is refused.

    Exit codes: 0 done, 1 Kafka or the results store is away, 2 refused, with the reason in one sentence.
    """

    def is_chosen(letter: Letter) -> bool:
        return (
            topic in {None, letter.topic}
            and partition in {None, letter.partition}
            and (not offsets or letter.offset in offsets)
            and letter.reason.startswith(reason)
        )

    def run() -> int:
        settings = load_settings()
        with _alone(settings):
            return replay(settings)

    def replay(settings: Settings) -> int:
        letters, marks = _read(settings)
        chosen = [letter for letter in letters if is_chosen(letter)]
        store = store_of(settings)
        store.check(REPLAYS)
        with closing(_topics(settings)) as topics, closing(store):
            replayer = Replayer(topics, store, marks, SystemClock().wall_ms)
            became = replayer.replay(chosen, _mend(mend), click.echo, dry=dry_run)
        click.echo(_closing_line(len(chosen), became, dry=dry_run))
        return 0

    sys.exit(exit_code(run))


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold off every other replay with this DATA_DIR: two at once could both send a letter.

    In a container there is nothing to lock that another one would see: there the container's name is the lock, see the script.

    Raises:
        ConfigurationError: one is going on.
    """
    if settings.stack == "compose":
        yield
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / "replay.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"another replay is going on and holds {path}; wait until it has ended, or end it with Ctrl-C"
            ) from None
        yield


def _closing_line(letters: int, became: Counter[str], *, dry: bool) -> str:
    sends = f"would be sent {became['meant']}" if dry else f"sent {became['sent']}"
    before = became["found"] + became["known"]
    return f"replay: letters {letters}, {sends}, sent before {before}, left {became['left']}"


def _topics(settings: Settings) -> Topics:
    if settings.stack == "embedded":
        return LogTopics(settings.log_dir)
    return KafkaTopics(settings.kafka_bootstrap)


def _read(settings: Settings) -> tuple[list[Letter], dict[tuple[str, int, int], Mark]]:
    """The letters by topic, partition and offset, and the marks."""
    try:
        with closing(proof.open_store(settings)) as store:
            letters = sorted(_letters(store.rows(TABLES["dead_letters"])))
            marks = {key: Mark(*fact.values) for key, fact in store.rows(REPLAYED_LETTERS)}  # type: ignore[arg-type]  # as the table has them
    except CannotTellError as error:
        raise StreamingError(str(error)) from error
    return letters, marks  # type: ignore[return-value]  # as above


def _letters(rows: Iterator[tuple[tuple[object, ...], object]]) -> Iterator[Letter]:
    for key, fact in rows:
        yield Letter(*key, *fact.values)  # type: ignore[arg-type, attr-defined]  # as the table has them


def _mend(text: str | None) -> Mend:
    """What makes the values."""
    if text is None:
        return lambda letter: letter.value
    command = shlex.split(text)
    if not command:
        raise ConfigurationError("--mend is empty; give a command, or leave it out to send the same bytes")

    def mended(letter: Letter) -> bytes | None:
        place = {"TOPIC": letter.topic, "PARTITION": str(letter.partition), "OFFSET": str(letter.offset)}
        try:
            done = subprocess.run(
                command,
                input=letter.value or b"",
                env={**os.environ, **place, "REASON": letter.reason},
                stdout=subprocess.PIPE,
                check=False,
            )
        except OSError as error:
            raise ConfigurationError(
                f"--mend {text!r} cannot be run ({error}); name a program that exists"
            ) from error
        return done.stdout if done.returncode == 0 else None

    return mended


if __name__ == "__main__":
    command(prog_name="scripts/replay")
