"""Versions of the checkpoint format: what an older and a newer version of the engine make of a folder."""

from pathlib import Path

import pytest

from engine import LocalContext
from engine.checkpoint.records import decode, encode
from engine.errors import StateVersionError
from tests.engine.children import python
from tests.recovery.versions import TO_TOTAL, Total, Versions, add, all_with, counted

NEWER = """
    import sys
    from importlib.machinery import SourceFileLoader
    from pathlib import Path

    folder, old, new = sys.argv[1:]
    as_it_is = SourceFileLoader.get_code

    def get_code(self, name):
        if name != "engine.checkpoint.records":
            return as_it_is(self, name)
        source = self.get_source(name)
        assert source.count(old) == 1, old
        return compile(source.replace(old, new), self.path, "exec")

    SourceFileLoader.get_code = get_code
    from engine import LocalContext
    from engine.errors import StateVersionError
    from tests.recovery.versions import Versions, add, counted

    with LocalContext("local", "test") as context:
        try:
            print(sorted({n for _, n in Versions(context, Path(folder)).run(counted("totals", add, int))}))
        except StateVersionError as error:
            print(error)
"""
FIELD = ("attempt: int\n", "attempt: int\n    origin: str = 'newer'\n")
FORMAT = ("FORMAT_VERSION = 1\n", "FORMAT_VERSION = 2\n")
GIVEN_UP = ("OLDEST_FORMAT = 1\n", "FORMAT_VERSION = OLDEST_FORMAT = 2\n")


def newer(folder: Path, change: tuple[str, str]) -> str:
    """What a newer version of the engine says whose records differ by this change, when it runs two batches more."""
    with python(NEWER, folder, *change) as process:
        return process.communicate()[0].strip()


@pytest.mark.slow
@pytest.mark.fault(
    50,
    "this version's code, patched: a field more in its records or another format, between two starts as it is",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            FIELD,
            r"holds a record that this version does not know \(Object contains unknown field `origin`.*run the version that",
        ),
        (FORMAT, r"has format 2, this version knows 1; run the version that wrote it"),
    ],
    ids=["field", "format"],
)
def test_newer_version_reads_this_ones_folder_and_this_one_refuses_its(
    context: LocalContext, tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    """A newer version goes on with every event once; back again this one refuses the folder by name, and harms nothing."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))
    assert newer(tmp_path, change) == "[4]"
    with pytest.raises(StateVersionError, match=words):
        versions.run(counted("totals", add, int))

    assert newer(tmp_path, change) == "[6]"


@pytest.mark.slow
@pytest.mark.fault(24, "a state's type changes after a version that recorded no types")
def test_states_of_before_types_were_recorded_are_migrated(context: LocalContext, tmp_path: Path) -> None:
    """What was written before types were recorded is of the first type that was, and is brought to today's."""
    plain = "return _encoder.encode(record)\n"
    untyped = "record = msgspec.structs.replace(record, types={}) if isinstance(record, Commit) else record"
    assert newer(tmp_path, (plain, f"{untyped}\n    {plain}")) == "[2]"
    versions = Versions(context, tmp_path)
    assert b'"types":{"totals"' not in versions.journal()
    assert versions.run(counted("totals", add, int), batches=1) == all_with(3)

    assert versions.run(TO_TOTAL, batches=1) == all_with(Total(4, 1))


@pytest.mark.slow
@pytest.mark.fault(50, "this version's code, patched so that it has given this format up")
def test_newer_version_refuses_what_it_no_longer_reads(context: LocalContext, tmp_path: Path) -> None:
    """A version that no longer reads this format refuses the folder by its number, and this one goes on with it."""
    versions = Versions(context, tmp_path)
    versions.run(counted("totals", add, int))

    assert newer(tmp_path, GIVEN_UP).endswith(
        "test/meta.json has format 1, this version knows 2; run the version that wrote it"
    )
    assert versions.run(counted("totals", add, int)) == all_with(4)


@pytest.mark.fault(50, "records as the first versions of this format wrote them")
@pytest.mark.parametrize(
    "record",
    [
        b'{"type":"begin","batch":{"time":1000,"attempt":0,"ranges":{"queue":[["queue",0,0,1]]}}}',
        b'{"type":"commit","batch":{"time":1000,"attempt":0,"ranges":{}},"operators":{"t":"x"},"versions":{"t":1000000},"maxima":{}}',
        b'{"type":"snapshot","snapshot":["t",0,1000000,"state/t/0000/1000000-000001.snap",1,9]}',
        b'{"type":"open","epoch":1,"follows":"","catalog":{"deltas":[["t",0,0,9,77,1000000,"000001-000000.log"]],"trimmed":[]}}',
    ],
    ids=["begin", "commit", "snapshot", "open"],
)
def test_records_of_older_versions_are_read(record: bytes) -> None:
    """A record without the fields that later versions have added is read, and so is what this version makes of it."""
    read = decode(record, "segment")

    assert decode(encode(read), "segment") == read
