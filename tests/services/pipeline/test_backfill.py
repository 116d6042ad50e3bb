"""A backfill of the pipeline on the embedded stack: other tables from the ledger's batches, which verify finds exact."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.errors import CheckpointError, ConfigurationError
from engine.sources.log import LogWriter
from services.pipeline.backfill import read_backfill
from services.pipeline.main import build, context_of
from services.producer.events import ad_event, page_event
from services.settings import Settings
from services.sqlite.migrate import migrate
from services.topics import AD_EVENTS, PAGE_VIEWS, create_topics
from tests.engine.children import wait_until
from tests.services.pipeline.world import small
from tools.checkpoint.__main__ import command
from tools.checkpoint.copying import copy
from tools.checkpoint.ledger import write_ledger
from tools.verify import verify

TABLES = ("campaign_windows", "trending_pages", "page_totals")
EVENTS = 200


def stack(folder: Path) -> Settings:
    """An embedded stack with its tables, in batches of a tenth of a second."""
    made = small(folder)
    folder.mkdir()
    migrate(made.results_path)
    return made


def rows(settings: Settings, table: str) -> list[tuple[Any, ...]]:
    """A table."""
    with sqlite3.connect(settings.results_path) as opened:
        found = opened.execute(f"SELECT * FROM {table} WHERE _deleted = 0").fetchall()  # noqa: S608 - names of this module
    opened.close()
    return sorted(found)


def produce(settings: Settings, begin: int) -> None:
    """A piece of both topics."""
    for topic, event in ((AD_EVENTS, ad_event), (PAGE_VIEWS, page_event)):
        with LogWriter(settings.log_dir, topic, 0) as writer:
            writer.append([(seq, *event(1, 0, seq, seq)) for seq in range(begin, begin + EVENTS)])


def taken(settings: Settings) -> int:
    """How many page views the ledger has."""
    return sum(views for _, views, *_ in rows(settings, "page_totals"))


def count_piece(settings: Settings, number: int) -> None:
    """Produce the piece of this number, and wait until the running pipeline has counted it and those before it."""
    produce(settings, number * EVENTS)
    wait_until(lambda: taken(settings) == (number + 1) * EVENTS, f"piece {number} is counted")


@pytest.mark.slow
def test_backfill_gives_equal_tables_that_verify_finds_exact(tmp_path: Path) -> None:
    """All tables, those by batch time too, come out as they were, and verify finds every row exact."""
    first, again = stack(tmp_path / "first"), stack(tmp_path / "again")
    create_topics(first)
    with context_of(first) as context:
        ssc = build(first, context)
        ssc.start()
        for piece in range(8):
            count_piece(first, piece)
        wait_until(lambda: bool(rows(first, "trending_pages")), "a window has ended")
        ssc.stop(stopSparkContext=False)
    environment = {"STACK": "embedded", "DATA_DIR": str(first.data_dir)}
    target = tmp_path / "batches"
    told = CliRunner().invoke(command, ["ledger", str(target)], env=environment)
    assert told.exit_code == 0, told.output
    again.log_dir.symlink_to(first.log_dir)
    with context_of(again) as context:
        ssc = build(again, context, backfill=target)
        ssc.start()
        last = rows(first, "ledger")[-1][2]
        wait_until(lambda: any(row[2] > last for row in rows(again, "ledger")), "a batch after them")
        ssc.stop(stopSparkContext=False)

    for table in TABLES:
        # Windows that end behind the backfill are of batches of its own.
        found = [row for row in rows(again, table) if table != "trending_pages" or row[0] <= last]
        assert found == rows(first, table)
    verdict = verify(again, wait_seconds=5)
    assert (verdict.missing, verdict.over, verdict.wrong) == (0, 0, 0), verdict.line


@pytest.mark.slow
def test_pipeline_goes_on_from_an_older_savepoint_with_its_ledger(tmp_path: Path) -> None:
    """A savepoint older than the tables is refused, and with the ledger's batches it starts there and every row stays exact."""
    settings = stack(tmp_path / "stack")
    older = settings.model_copy(update={"checkpoint_dir": tmp_path / "older"})
    create_topics(settings)
    with context_of(settings) as context:
        ssc = build(settings, context)
        ssc.start()
        for piece in range(4):
            count_piece(settings, piece)
            if not older.checkpoint_dir.exists():
                copy(settings.checkpoint_dir, older.checkpoint_dir)
        ssc.stop(stopSparkContext=False)
    write_ledger(settings, tmp_path / "batches")
    last = rows(settings, "ledger")[-1][2]
    with context_of(older) as context:
        with pytest.raises(CheckpointError, match=rf"ends with batch \d+ .*, and .* up to batch {last} \("):
            build(older, context).start(thread=False)
        ssc = build(older, context, backfill=tmp_path / "batches")
        ssc.start()
        count_piece(settings, 4)
        ssc.stop(stopSparkContext=False)

    assert rows(settings, "ledger")[-1][2] > last
    verdict = verify(settings, wait_seconds=5)
    assert (verdict.code, verdict.missing, verdict.over, verdict.wrong) == (0, 0, 0, 0), verdict.line


def test_backfill_of_fewer_jobs_leaves_out_topics_that_no_job_reads(tmp_path: Path) -> None:
    """Topics of jobs that are not in the settings are left out; one that the pipeline does not know is refused by name."""
    settings = stack(tmp_path / "stack").model_copy(update={"jobs": ("page_totals",)})
    create_topics(settings)
    produce(settings, 0)
    path = tmp_path / "batches"
    line = '{"time":1000,"zero":0,"ranges":[["%s",0,0,200],["page-views",0,0,200]]}\n'
    with context_of(settings) as context:
        path.write_text(line % "others")
        with pytest.raises(ConfigurationError, match="input 'others', which this job does not have"):
            build(settings, context, backfill=path).start(thread=False)
        path.write_text(line % AD_EVENTS)
        ssc = build(settings, context, backfill=path)
        ssc.start(thread=False)
        ssc.runBatch()
        ssc.stop(stopSparkContext=False)

    assert taken(settings) == EVENTS
    assert [row[2] for row in rows(settings, "ledger")] == [1_000]


@pytest.mark.parametrize(
    "text", ["", "{", '{"time":2,"zero":0,"ranges":[]}\n{"time":3,"zero":1,"ranges":[]}']
)
def test_file_that_is_no_backfill_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is empty, damaged or of two applications is refused with what is wrong and how to make one."""
    path = tmp_path / "batches"
    path.write_text(text)

    with pytest.raises(
        ConfigurationError, match=r"the backfill .* (write it with scripts|give all of one application)"
    ):
        read_backfill(path)


def test_ledger_of_nothing_is_refused(tmp_path: Path) -> None:
    """The batches of an application that never ran are refused by its name."""
    settings = stack(tmp_path / "stack")
    environment = {"STACK": "embedded", "DATA_DIR": str(settings.data_dir), "APP": "nobody"}
    told = CliRunner().invoke(command, ["ledger", str(tmp_path / "batches")], env=environment)

    assert told.exit_code == 2
    assert "has no batch of APP=nobody" in told.output
