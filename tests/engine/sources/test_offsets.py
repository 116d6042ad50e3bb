"""The ranges that the RDD of a direct stream tells, over the log on disk."""

from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext
from engine.batch import OffsetRange
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError
from tests.engine.sources.reader import TOPIC, Reader

FIRST = [OffsetRange(TOPIC, 0, 0, 2), OffsetRange(TOPIC, 1, 0, 1)]
SECOND = [OffsetRange(TOPIC, 0, 2, 2), OffsetRange(TOPIC, 1, 1, 2)]


def run(context: LocalContext, folder: Path, outputs: Any) -> Reader:
    """Two batches over two partitions."""
    with Reader(context, folder, outputs) as reader:
        reader.write(0, b"1", b"2")
        reader.write(1, b"3")
        reader.run()
        reader.write(1, b"4")
        reader.run()
    return reader


def test_first_operation_knows_the_ranges(context: LocalContext, tmp_path: Path) -> None:
    """In foreachRDD and in transform right on the stream the RDD tells the batch's ranges, also cached; they are a list of one's own."""
    told: list[Any] = []

    def outputs(stream: DStream[Any], reader: Reader) -> None:
        stream.foreachRDD(lambda rdd: told.append(rdd.offsetRanges()))

        def noted(rdd: Any) -> Any:
            told.append(rdd.offsetRanges())
            rdd.offsetRanges().clear()
            return rdd

        reader.collect(stream.transform(noted), "all")
        stream.cache().foreachRDD(lambda rdd: told.append(rdd.offsetRanges()))

    reader = run(context, tmp_path, outputs)

    assert told == [FIRST] * 3 + [SECOND] * 3
    assert reader.seen["all"] == [[1, 2, 3], [4]]


@pytest.mark.parametrize(
    "derived",
    [
        lambda stream: stream.map(str),
        lambda stream: stream.window(2),
        lambda stream: stream.transform(lambda rdd: rdd.filter(bool)),
    ],
)
def test_later_operations_do_not_know_the_ranges(context: LocalContext, tmp_path: Path, derived: Any) -> None:
    """The RDD of any stream that is made of the direct one refuses to tell ranges; the engine's own says where they are."""
    errors: list[Exception] = []

    def outputs(stream: DStream[Any], _: Reader) -> None:
        def ask(rdd: Any) -> None:
            try:
                rdd.offsetRanges()
            except Exception as error:  # noqa: BLE001  looked at below
                errors.append(error)

        derived(stream).foreachRDD(ask)

    run(context, tmp_path, outputs)

    kind: type[Exception] = AttributeError
    words = "has no attribute 'offsetRanges'"
    if context.master.startswith("local"):
        kind = ConfigurationError
        words = (
            "offsetRanges() is known only to the RDD of a direct stream's first operation; "
            "ask for it in a transform or foreachRDD right on the stream"
        )
    assert [(type(error), str(error).endswith(words)) for error in errors] == [(kind, True)] * 2
