"""`scripts/checkpoint`: a folder shown for what it is, and copied whole while its application runs."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, UserFunctionError
from tests.engine.app import START_MS, App
from tools.checkpoint.__main__ import command
from tools.checkpoint.copying import Copied, copy
from tools.checkpoint.folder import look

KEYS = [f"key-{number}" for number in range(20)]
BATCHES = [[(key, 1) for key in KEYS]] * 200


@pytest.fixture(scope="module", name="context")
def one_context() -> Iterator[LocalContext]:
    """The driver's own process."""
    with LocalContext("local", "app") as made:
        yield made


def total(values: list[int], state: int | None) -> int:
    """The sum."""
    return (state or 0) + sum(values)


def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
    """Every key with its total."""
    app.collect(stream.updateStateByKey(total, name="totals", keyType=str, stateType=int), "all")


def all_with(count: int) -> list[tuple[str, int]]:
    """Every key with this total."""
    return sorted((key, count) for key in KEYS)


def start_of(folder: Path, context: LocalContext, batches: int) -> list[Any]:
    """What an application gives that starts in this directory and runs so many batches."""
    with App(context, folder, job, BATCHES) as app:
        app.run(batches)
    return app.out["all"]


def lines(*arguments: object) -> tuple[int, str]:
    """Exit code and output of the command."""
    result = CliRunner().invoke(command, [*map(str, arguments)])
    return result.exit_code, result.stdout or result.stderr


def test_copy_of_a_batch_in_flight_runs_it_again(context: LocalContext, tmp_path: Path) -> None:
    """A copy made while a batch runs has that batch as begun: it runs again there, and the original goes on as if nothing was."""

    def copying(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        job(ssc, stream, app)
        stream.foreachRDD(lambda _rdd: len(app.out["all"]) == 3 and copy(tmp_path / "one", tmp_path / "two"))

    with App(context, tmp_path / "one", copying, BATCHES) as app:
        app.run(5)
    shown = look(tmp_path / "two")
    assert shown.pending is not None
    assert shown.catalog.commit is not None
    assert (shown.catalog.commit.batch.time, shown.pending.time) == (START_MS + 2_000, START_MS + 3_000)

    assert start_of(tmp_path / "two", context, 1) == [all_with(3), all_with(4)]
    assert app.out["all"][-1] == all_with(5)


@pytest.mark.slow
def test_copies_of_an_application_at_work_all_start(context: LocalContext, tmp_path: Path) -> None:
    """Copies made while batches commit, snapshot and purge are whole: each starts with the state of its last commit."""
    app = App(context, tmp_path / "one", job, BATCHES).start()
    has_ended = threading.Event()

    def run() -> None:
        app.run(len(BATCHES) - 1)
        has_ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    copies: list[Copied] = []
    while not has_ended.is_set():
        copies.append(copy(tmp_path / "one", tmp_path / f"copy-{len(copies)}"))
    thread.join()
    app.ssc.stop(stopSparkContext=False)
    chosen = [done for done in copies if done.batch][:: max(1, len(copies) // 5)]

    assert len({done.batch for done in chosen}) > 3
    assert any(look(done.folder).catalog.snapshots for done in chosen)
    for done in chosen:
        committed, is_pending = (done.batch - START_MS) // 1_000, look(done.folder).pending is not None
        assert start_of(done.folder.parent, context, 1)[-1] == all_with(committed + is_pending + 1)


def test_copy_takes_no_folder_that_is_there(context: LocalContext, tmp_path: Path) -> None:
    """A copy over a folder that is there is refused, and so is one of nothing."""
    start_of(tmp_path / "one", context, 1)
    copy(tmp_path / "one", tmp_path / "two")

    with pytest.raises(ConfigurationError, match="two/app is there already; name another"):
        copy(tmp_path / "one", tmp_path / "two")
    with pytest.raises(ConfigurationError, match="nothing holds no checkpoint of an application"):
        copy(tmp_path / "nothing", tmp_path / "three")


def test_show_says_what_a_start_would_do(context: LocalContext, tmp_path: Path) -> None:
    """Show names the batch that a start runs again, ranges, operators and sizes in 80 columns, and the same as JSON."""
    app = App(context, tmp_path, job, BATCHES).start().run(80)
    app.crash_in = "all"
    with pytest.raises(UserFunctionError, match="CrashError"):
        app.run()
    code, text = lines("show", tmp_path)

    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "It runs batch 2001-09-09T01:48:01.000Z again, attempt 1, with the ranges below." in text
    assert "committed: 2001-09-09T01:48:00.000Z, attempt 0" in text
    assert "begun, not committed: 2001-09-09T01:48:01.000Z, attempt 0" in text
    assert re.search(r"queue: queue\[0\] \d+\.\.\d+", text)
    assert "str -> int" in text
    found = json.loads(lines("show", tmp_path, "--json")[1])
    assert (found["committed"]["time"], found["pending"]["time"]) == (START_MS + 80_000, START_MS + 81_000)
    assert found["operators"][0]["snapshots"] > 0
    assert found["is_held"] is False


def test_show_tells_of_a_process_and_of_damage(context: LocalContext, tmp_path: Path) -> None:
    """A held folder is shown as held, a damaged one with the reason for which a start is refused, and none is changed."""
    with App(context, tmp_path, job, BATCHES) as app:
        app.run(3)
        assert "epoch 1, held by a process" in lines("show", tmp_path)[1]
    (segment,) = (tmp_path / "app" / "journal").iterdir()
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    code, text = lines("show", tmp_path / "app")

    assert code == 1
    assert "A start is refused:" in text
    assert "is damaged at" in " ".join(text.split())
    assert segment.read_bytes() == content
    assert lines("show", tmp_path / "nothing")[0] == 2
