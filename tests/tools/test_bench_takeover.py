"""The bench of takeovers: what counts as one, and a real one of librdkafka's group. No figure is judged here."""

import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from engine.errors import ConfigurationError, StreamingError
from tests.servers import KafkaServer
from tests.tools.stack_world import wait_until
from tools.bench.takeover.__main__ import CONTENDERS, Compared, command, compare, names_of, table_of
from tools.bench.takeover.contender import Processes, Result, first_result
from tools.bench.takeover.measuring import PARTITIONS, SIGNALS, Takeover

MOVED = {0, 1}
SIGNALLED, OTHER = 0, 1
TELL = (
    "import sys, time\n"
    "for offset in range({count}):\n"
    "    print(0, offset, int(time.time() * 1000), flush=True)\n"
    "    time.sleep(0.02)\n"
    "sys.exit('the last words')"
)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([Result(OTHER, 0, 5, 103.0), Result(OTHER, 1, 5, 102.0)], 102.0),
        ([Result(SIGNALLED, 0, 5, 100.5), Result(OTHER, 0, 6, 103.0)], 103.0),
        ([Result(OTHER, 2, 5, 100.5), Result(OTHER, 0, 6, 103.0)], 103.0),
        ([Result(OTHER, 0, 5, 99.9), Result(OTHER, 0, 6, 103.0)], 103.0),
        ([Result(OTHER, 0, 1, 103.0)], 103.0),
        ([Result(SIGNALLED, 0, 5, 100.5), Result(OTHER, 2, 5, 100.5)], None),
    ],
    ids=[
        "the earliest of two moved partitions",
        "not of the process itself",
        "not of a partition that stayed",
        "not of a time before the signal",
        "also of a record that was processed before",
        "none yet",
    ],
)
def test_takeover_ends_with_first_result_of_a_moved_partition(
    results: list[Result], expected: float | None
) -> None:
    """Only a result after the signal, of a partition that the process owned and from another process, ends a takeover."""
    found = first_result(results, MOVED, 100.0, SIGNALLED)

    assert (found and found.time) == expected


@pytest.mark.slow
def test_partition_is_owned_by_whoever_told_its_newest_result(tmp_path: Path) -> None:
    """A member owns the partition whose results it prints, and nobody owns one of which nothing was printed."""
    processes = Processes("mine", lambda _: (sys.executable, "-c", TELL.format(count=10_000)), tmp_path)
    try:
        processes.start(1)
        wait_until(lambda: processes.owner_of(0) == 0)

        assert processes.owner_of(1) is None

        sent = processes.kill(0, signal.SIGKILL)
        processes.restart(0)
        wait_until(lambda: processes.first_result({0}, sent, without=1) is not None)

        assert processes.first_result({0}, sent, without=0) is None
    finally:
        processes.stop()


@pytest.mark.slow
def test_member_that_ends_unasked_is_named_with_its_last_words(tmp_path: Path) -> None:
    """A contender whose process dies by itself stops the bench with what the process said last."""
    processes = Processes("mine", lambda _: (sys.executable, "-c", TELL.format(count=0)), tmp_path)
    try:
        processes.start(1)
        with pytest.raises(StreamingError, match=r"(?s)mine: member 0 ended with 1; .*the last words"):
            wait_until(lambda: processes.owner_of(0) == 0)
    finally:
        processes.stop()


def test_unknown_contender_is_refused() -> None:
    """A name that is no contender's is refused with those that are, and so is one that stands there twice."""
    with pytest.raises(ConfigurationError, match=r"'flink'.*choose from replicas, librdkafka, streams"):
        names_of("librdkafka,flink")
    with pytest.raises(ConfigurationError, match="twice"):
        names_of("streams,streams")

    assert CliRunner().invoke(command, ["--only", "flink"]).exit_code == 2


def test_table_of_takeovers_has_median_and_worst_in_80_columns() -> None:
    """Each contender has a row for each signal, with the median and the worst of its takeovers."""
    takeovers = [
        Takeover("librdkafka", number, seconds, 3) for number in SIGNALS for seconds in (1.0, 2.5, 9.25)
    ]
    console = Console(width=80, record=True, quiet=False)
    console.print(table_of({name: Compared(takeovers, 0.0) for name in CONTENDERS}, 2, 0.5))
    lines = console.export_text().splitlines()

    assert max(map(len, lines)) <= 80
    for name in CONTENDERS:
        for number in SIGNALS:
            (row,) = (line for line in lines if name in line and number.name in line)
            assert "2.50" in row
            assert "9.25" in row


@pytest.mark.servers
@pytest.mark.slow
def test_consumers_of_librdkafka_take_over_after_each_signal(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    """On a real Kafka the partitions of a consumer that is killed, or ended, come to the other one, which tells their results."""
    done: list[int] = []
    found = compare("librdkafka", kafka_server.bootstrap, tmp_path, 2, 1, lambda: done.append(1))

    assert [each.number for each in found.takeovers] == list(SIGNALS)
    assert all(0 < each.seconds < 60 for each in found.takeovers)
    assert all(each.moved == PARTITIONS // 2 for each in found.takeovers)
    assert len(done) == len(SIGNALS)
