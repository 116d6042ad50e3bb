"""Dead letters go back to their topics once, mended, and verify stays exact."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine import ManualClock, StreamingContext
from engine.sinks.sqlite import SQLiteSink
from engine.sources.log import LogWriter
from services.pipeline.main import build, context_of
from services.producer.events import ad_event, page_event
from services.producer.log_sink import LogSink
from services.settings import REPOSITORY, Settings
from services.sqlite.migrate import migrate
from services.topics import AD_EVENTS, PAGE_VIEWS, create_topics
from tests.engine.app import START_MS
from tests.servers import KafkaServer
from tools.replay.__main__ import _alone, command
from tools.replay.letters import REPLAYS, Letter, Mark, Outcome, Replayer
from tools.replay.topics import KafkaTopics, LogTopics
from tools.verify import Verdict, verify

SEED = 7
MEND = """sed -n 's/page:/"page":/p'"""
"""Puts the quotes where they are missing, and gives nothing for what has no page."""
EVENTS = 30


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An embedded stack with topics and tables, whose log has events, two views without quotes and one record beyond repair."""
    made = Settings(
        stack="embedded",
        data_dir=tmp_path,
        master="local",
        seed=SEED,
        batch_seconds=1,
        page_partitions=1,
        ad_partitions=1,
    )
    create_topics(made)
    migrate(made.results_path)
    append(made, AD_EVENTS, *(ad_event(SEED, 0, seq, START_MS + seq) for seq in range(EVENTS)))
    append(made, PAGE_VIEWS, *(page_event(SEED, 0, seq, START_MS + seq) for seq in range(EVENTS)))
    broken = [(b"", b'{page:"/page/%03d","event_time":%d}' % (n, START_MS)) for n in (1, 2)]
    append(made, PAGE_VIEWS, *broken, (b"", b"\xff"))
    return made


def append(settings: Settings, topic: str, *records: tuple[bytes, bytes]) -> None:
    """Append keys and values to a topic's only partition."""
    with LogWriter(settings.log_dir, topic, 0) as writer:
        writer.append([(START_MS, key, value) for key, value in records])


def run_batches(settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int = 2) -> None:
    """Start the pipeline, run batches over what the log has, and stop it."""
    # The second start is later than the first.
    clock = ManualClock(START_MS + 60_000 + 10_000 * settings.checkpoint_dir.exists())

    monkeypatch.setattr("services.pipeline.main.StreamingContext", partial(StreamingContext, clock=clock))
    with context_of(settings) as context:
        ssc = build(settings, context)
        ssc.start(thread=False)
        try:
            for _ in range(number):
                clock.advance(1_000)
                ssc.runBatch()
        finally:
            ssc.stop(stopSparkContext=False)


def replayed(settings: Settings, *arguments: str) -> Result:
    """Run the command to its end."""
    environment = {"STACK": "embedded", "DATA_DIR": str(settings.data_dir)}
    return CliRunner().invoke(command, arguments, env=environment)


def views(settings: Settings, page: str) -> int:
    """The total of a page."""
    with closing(sqlite3.connect(settings.results_path)) as store:
        found = store.execute("SELECT views FROM page_totals WHERE page = ?", (page,)).fetchone()
        return int(found[0]) if found else 0


def assert_exact(verdict: Verdict, events: int) -> None:
    """Nothing is missing, over or wrong, and the producers' totals are those of the closed form."""
    assert (verdict.reason, verdict.code, verdict.undecided) == ("", 0, 0)
    assert verdict.producers is not None
    assert (verdict.producers.events, verdict.producers.gaps, verdict.producers.duplicates) == (events, 0, 0)
    assert verdict.producers.totals > 0


@pytest.mark.slow
@pytest.mark.fault(35, "two views of broken JSON are put aside, mended and sent again")
def test_mended_letters_count_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poison becomes dead letters, a replay mends and sends two of three once, they count, and verify is exact all the time."""
    run_batches(settings, monkeypatch)
    before = [views(settings, f"/page/{n:03d}") for n in (1, 2)]
    first = verify(settings, wait_seconds=0)
    assert_exact(first, 2 * EVENTS)
    assert first.dead_letters == 3

    meant = replayed(
        settings, "--mend", MEND, "--reason", "undecodable", "--offset", str(EVENTS), "--dry-run"
    )
    assert meant.stdout.splitlines() == [
        f"page-views[0] offset {EVENTS}: would be sent; put aside as undecodable",
        "replay: letters 1, would be sent 1, sent before 0, left 0",
    ]
    sent = replayed(settings, "--mend", MEND, "--topic", PAGE_VIEWS, "--partition", "0")
    assert sent.exit_code == 0, sent.output
    assert sent.stdout.splitlines()[-1] == "replay: letters 3, sent 2, sent before 0, left 1"
    assert f"page-views[0] offset {EVENTS}: sent at offset {EVENTS + 3}" in sent.stdout
    again = replayed(settings, "--mend", MEND)
    assert again.stdout.splitlines()[-1] == "replay: letters 3, sent 0, sent before 2, left 1"

    run_batches(settings, monkeypatch)
    assert [views(settings, f"/page/{n:03d}") for n in (1, 2)] == [count + 1 for count in before]
    assert_exact(verify(settings, wait_seconds=0), 2 * EVENTS)


@pytest.mark.slow
def test_event_that_is_sent_again_is_no_producers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole event that goes back counts in the tables, neither as a duplicate of its producer nor as where that goes on."""
    old = page_event(SEED, 0, 3, START_MS + 3)[1]
    with SQLiteSinkOf(settings) as store:
        replayer = Replayer(LogTopics(settings.log_dir), store, {}, lambda: START_MS)
        replayer.replay([Letter(PAGE_VIEWS, 0, 3, "late", old)], lambda letter: letter.value, lambda _: None)

    run_batches(settings, monkeypatch)

    assert_exact(verify(settings, wait_seconds=0), 2 * EVENTS)
    producer = LogSink(settings.log_dir, PAGE_VIEWS, 0)
    try:
        assert producer.resume().seq == EVENTS - 1
    finally:
        producer.close()


@pytest.mark.slow
def test_false_mark_hides_no_duplicate(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer's duplicate is told also where a row says that a letter lies, as the record has not the letter's key."""
    append(settings, PAGE_VIEWS, page_event(SEED, 0, 3, START_MS + 3))
    with closing(sqlite3.connect(settings.results_path)) as store, store:
        store.execute("INSERT INTO replays VALUES (?, 0, 5, 0, ?, 0, 0, 0)", (PAGE_VIEWS, EVENTS + 3))

    run_batches(settings, monkeypatch)

    producers = verify(settings, wait_seconds=0).producers
    assert producers is not None
    assert (producers.events, producers.duplicates) == (2 * EVENTS + 1, 1)


class SQLiteSinkOf:
    """The results store, closed at the end of the block."""

    def __init__(self, settings: Settings) -> None:
        self._sink = SQLiteSink(settings.results_path)

    def __enter__(self) -> SQLiteSink:
        return self._sink

    def __exit__(self, *_: object) -> None:
        self._sink.close()


class CutError(Exception):
    """What a test raises where a replay would be killed."""


class Cut(LogTopics):
    """A log whose replay is cut off before or after its first append."""

    def __init__(self, log_dir: Path, after: bool) -> None:
        super().__init__(log_dir)
        self._after = after

    def append(self, topic: str, partition: int, record: tuple[int, bytes, bytes]) -> int:
        """Append, or not, and be gone."""
        if self._after:
            super().append(topic, partition, record)
        raise CutError


@pytest.mark.parametrize("after", [False, True])
def test_replay_that_is_cut_off_sends_nothing_twice(settings: Settings, after: bool) -> None:
    """A replay that ends between the record and its mark is finished by the next one, which finds the record where it is."""
    letter = Letter(PAGE_VIEWS, 0, EVENTS, "undecodable", b"mended")
    with SQLiteSinkOf(settings) as store:
        with pytest.raises(CutError):
            Replayer(Cut(settings.log_dir, after), store, {}, lambda: START_MS).replay(
                [letter], lambda _: b"mended", lambda _: None
            )
        assert marks(settings) == [(PAGE_VIEWS, 0, EVENTS, EVENTS + 3, None)]
        told: list[Outcome] = []
        doubt = {letter.key: Mark(EVENTS + 3, None)}
        Replayer(LogTopics(settings.log_dir), store, doubt, lambda: START_MS).replay(
            [letter], lambda _: b"mended", told.append
        )

    assert [outcome.became for outcome in told] == ["found" if after else "sent"]
    assert marks(settings) == [(PAGE_VIEWS, 0, EVENTS, EVENTS + 3, EVENTS + 3)]
    assert LogTopics(settings.log_dir).end(PAGE_VIEWS, 0) == EVENTS + 4


def marks(settings: Settings) -> Any:
    """The rows of the table of marks."""
    with closing(sqlite3.connect(settings.results_path)) as store:
        return store.execute(f"SELECT {', '.join(REPLAYS.columns)} FROM replays").fetchall()  # noqa: S608 - names of ours


def test_letter_that_comes_late_again_is_left(settings: Settings) -> None:
    """What was late, was sent again as it was and was late again is not sent a third time, but with other bytes it is."""
    first, again = (Letter(PAGE_VIEWS, 0, offset, "late", b"old") for offset in (3, EVENTS + 3))
    end = LogTopics(settings.log_dir).end(PAGE_VIEWS, 0)
    with SQLiteSinkOf(settings) as store:
        replayer = Replayer(LogTopics(settings.log_dir), store, {}, lambda: START_MS)
        told: list[Outcome] = []
        replayer.replay([first], lambda letter: letter.value, told.append)
        assert told[0].sent_at == end == again.offset
        # Seen by the same replay and by the next one, which has the marks.
        for marks_of in ({}, {first.key: Mark(end, end)}):
            another = Replayer(LogTopics(settings.log_dir), store, marks_of, lambda: START_MS)
            (another if marks_of else replayer).replay([again], lambda letter: letter.value, told.append)
        assert LogTopics(settings.log_dir).end(PAGE_VIEWS, 0) == end + 1
        replayer.replay([again], lambda _: b"mended", told.append)

    assert [outcome.became for outcome in told] == ["sent", "left", "left", "sent"]


def test_second_replay_is_refused(settings: Settings) -> None:
    """While a replay goes on, another one on the same stack is refused in a sentence that names the lock."""
    with _alone(settings):
        second = replayed(settings)

    assert second.exit_code == 2
    assert second.stderr.startswith(
        f"another replay is going on and holds {settings.data_dir / 'replay.lock'};"
    )
    assert replayed(settings).exit_code == 0


def test_wrong_orders_are_refused(settings: Settings, tmp_path: Path) -> None:
    """A command to mend that does not exist, a partition that a producer holds, and a stack that is not there end with a sentence."""
    with closing(sqlite3.connect(settings.results_path)) as store, store:
        store.execute(
            "INSERT INTO dead_letters VALUES (?, 0, ?, 'late', x'00', 1, 1, 0)", (PAGE_VIEWS, EVENTS)
        )
    missing = replayed(settings, "--mend", "no-such-program")
    assert (missing.exit_code, "no-such-program" in missing.stderr) == (2, True)
    with LogWriter(settings.log_dir, PAGE_VIEWS, 0):
        held = replayed(settings)
    assert held.exit_code == 2
    assert "is being written by another process" in held.stderr
    gone = replayed(settings.model_copy(update={"data_dir": tmp_path / "none"}))
    assert gone.exit_code == 1
    assert "does not exist" in gone.stderr


@pytest.fixture
def kafka_topics(kafka_server: KafkaServer) -> Iterator[KafkaTopics]:
    """The session's Kafka."""
    made = KafkaTopics(kafka_server.bootstrap)
    yield made
    made.close()


@pytest.mark.servers
@pytest.mark.slow
def test_kafka_takes_letters_back(kafka_topics: KafkaTopics, fresh_topic: Any) -> None:
    """A record lies in Kafka where it is said to, under its key, and is found from any place before it and from none behind."""
    topic = fresh_topic(2)
    offsets = [
        kafka_topics.append(topic, 1, (START_MS, key, json.dumps(n).encode()))
        for n, key in enumerate((b"replay/a/0/1", b"replay/a/0/2"))
    ]

    assert offsets == [0, 1]
    assert (kafka_topics.end(topic, 0), kafka_topics.end(topic, 1)) == (0, 2)
    assert kafka_topics.find(topic, 1, 0, b"replay/a/0/2") == 1
    assert kafka_topics.find(topic, 1, 1, b"replay/a/0/1") is None
    assert kafka_topics.find(topic, 0, 0, b"replay/a/0/1") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "-h"),
        ("replay", "--topic", "x", "--help"),
        ("checkpoint", "ledger", "-h"),
        ("checkpoint", "-h"),
    ],
)
def test_scripts_tell_their_help_without_a_stack(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Help is given wherever it is asked for, in eighty columns, also where no stack is up."""
    done = script(tmp_path, *arguments)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: scripts/{arguments[0]}")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("replay",), ("checkpoint", "ledger", "target")])
def test_scripts_mean_the_stack_that_is_up(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Without a stack both are refused; with an embedded one in DATA_DIR they ask its file and no server."""
    refused = script(tmp_path, *arguments)
    assert (refused.returncode, refused.stderr.startswith("no stack is up; ")) == (2, True)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "supervisor.json").write_text("{}")
    (tmp_path / "run" / "settings.json").write_text('{"STACK": "embedded"}')
    found = script(tmp_path, *arguments)
    assert found.returncode in {1, 2}
    assert f"{tmp_path}/results" in found.stderr


def script(data_dir: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of ours with this DATA_DIR and without any other setting."""
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir)}
    return subprocess.run(
        [REPOSITORY / "scripts" / name, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_script_passes_its_arguments_on() -> None:
    """The script is there, runs the command, and is one that anybody may run."""
    script = REPOSITORY / "scripts" / "replay"
    assert script.stat().st_mode & 0o111 == 0o111
    assert 'python -m tools.replay "$@"' in script.read_text()
