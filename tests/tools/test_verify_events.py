"""verify proves which events the pipeline counted: an engine that loses one and counts another one twice is found."""

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import StreamingContext
from engine.dstream.dstream import DStream
from engine.sources.log import LogWriter
from services.pipeline import main
from services.producer.events import ad_event, page_event
from services.settings import Settings
from services.sqlite.migrate import migrate
from services.topics import AD_EVENTS, PAGE_VIEWS, create_topics
from tests.services.pipeline.world import small
from tools.verify import Verdict, verify

START_MS = 1_700_000_000_000
EVENTS = 300
CONTENT = {AD_EVENTS: ad_event, PAGE_VIEWS: page_event}
TABLES = {AD_EVENTS: "campaign_windows", PAGE_VIEWS: "page_totals"}


def run_pipeline(folder: Path) -> Verdict:
    """One batch of the pipeline over events of both topics, all in one window, and the verdict."""
    settings = small(folder)
    create_topics(settings)
    migrate(settings.results_path)
    for topic, content in CONTENT.items():
        with LogWriter(settings.log_dir, topic, 0) as writer:
            writer.append([(START_MS, *content(settings.seed, 0, seq, START_MS)) for seq in range(EVENTS)])
    with main.context_of(settings) as context:
        ssc = main.build(settings, context)
        ssc.start(thread=False)
        ssc.runBatch()
        ssc.stop(stopSparkContext=False)
    return verify(settings, wait_seconds=0)


def two_of_a_row(topic: str) -> tuple[int, int]:
    """The numbers of two events that count in the same row."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for seq in range(EVENTS):
        event = json.loads(CONTENT[topic](1, 0, seq, START_MS)[1])
        if event.get("event_type", "view") == "view":
            rows[event.get("page") or event["ad_id"][:6]].append(seq)
    first, second, *_ = next(numbers for numbers in rows.values() if len(numbers) > 1)
    return first, second


def kept(lost: int, twice: int, event: Any) -> list[Any]:
    """What comes of an event: nothing, the event, or the event two times."""
    return [event] * (0 if event.seq == lost else 2 if event.seq == twice else 1)


def test_right_engine_is_exact(tmp_path: Path) -> None:
    """The pipeline as it is gives exact rows of these events."""
    verdict = run_pipeline(tmp_path)
    assert (verdict.code, verdict.reason) == (0, "")
    assert verdict.exact > 100


@pytest.mark.parametrize("topic", TABLES)
def test_engine_that_swaps_an_event_for_another_is_found(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that loses one event and counts another one of its row twice has one wrong row, in seq_sum and nothing else."""
    lost, twice = two_of_a_row(topic)
    right = main.input_of

    def wrong(
        ssc: StreamingContext, settings: Settings, name: str, partitions: Sequence[int] | None
    ) -> DStream[Any]:
        events = right(ssc, settings, name, partitions)
        return events.flatMap(partial(kept, lost, twice)) if name == topic else events

    # No setting makes the pipeline wrong, and verify is to find an engine that is.
    monkeypatch.setattr("services.pipeline.main.input_of", wrong)
    verdict = run_pipeline(tmp_path)
    found = {table.name: [offender.differs for offender in table.offenders] for table in verdict.tables}
    assert found.pop(TABLES[topic]) == ["seq_sum"]
    assert not any(found.values())
    assert (verdict.missing, verdict.over, verdict.wrong, verdict.code) == (0, 0, 1, 1)
