"""The table of the API is what the code is, and nothing is missing without a reason."""

import pytest

from tools.api.__main__ import PAGE, page
from tools.api.inventory import CLASSES, Class
from tools.api.rows import Row, rows

ROWS = [(kind, row) for kind in CLASSES for row in rows(kind)]


def test_page_is_as_the_code_is() -> None:
    """docs/api.md is what `python -m tools.api` writes."""
    assert PAGE.read_text() == page()


def test_nothing_is_missing_without_a_reason() -> None:
    """What is not on local, or is refused there, has a reason in its row."""
    assert [
        f"{kind.title}: {row.name}" for kind, row in ROWS if row.local != "yes" and not row.difference
    ] == []


def test_streams_miss_nothing() -> None:
    """Every operation of streams and contexts is on both backends."""
    streams = [row for kind, row in ROWS if kind.title in {"DStream and pair DStream", "StreamingContext"}]
    assert {(row.local, row.spark) for row in streams} == {("yes", "yes")}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.title)
def test_every_operation_is_called_by_a_test(kind: Class) -> None:
    """What the table calls done occurs in at least one module of tests."""

    def is_unproven(row: Row) -> bool:
        return row.local == "yes" and row.tests == 0

    assert [row.name for row in rows(kind) if is_unproven(row)] == []
