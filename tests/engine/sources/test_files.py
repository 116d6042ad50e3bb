"""Files that appear in a folder: which are read, how, and what a restart reads."""

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import CheckpointWriteError, ConfigurationError, SourceError, UserFunctionError
from engine.sources import blocks, files
from engine.sources.files import FileSplit, LinesOf, RecordsOf
from tests.engine.app import START_MS

Make = Callable[[StreamingContext, Path], DStream[Any]]


def text(ssc: StreamingContext, folder: Path) -> DStream[str]:
    """The lines of the folder's files."""
    return ssc.textFileStream(folder)


class Watching:
    """A context over a folder `in`, with checkpoints beside it; `seen` has what each batch held."""

    def __init__(self, context: LocalContext, base: Path, make: Make = text) -> None:
        self.folder = base / "in"
        self.folder.mkdir(exist_ok=True)
        self._context, self._base, self._make = context, base, make
        self._clock = ManualClock(START_MS)
        self.seen: list[list[Any]] = []
        self.fail = False

    def start(self) -> Self:
        """A start."""
        self.ssc = StreamingContext(self._context, 1.0, clock=self._clock, everyInterval=True)
        self.ssc.checkpoint(self._base / "checkpoints")
        self._make(self.ssc, self.folder).foreachRDD(self._keep)
        self.ssc.start(thread=False)
        return self

    def _keep(self, rdd: Any) -> None:
        if self.fail:
            raise ValueError("killed here")
        self.seen.append(rdd.collect())

    def put(self, name: str, data: str | bytes, modified: int | None = None) -> Self:
        """Move a file in."""
        hidden = self.folder / ".new"
        hidden.write_bytes(data if isinstance(data, bytes) else data.encode())
        if modified is not None:
            os.utime(hidden, (modified, modified))
        hidden.rename(self.folder / name)
        return self

    def run(self, batches: int = 1) -> Self:
        """So many batches."""
        for _ in range(batches):
            self._clock.advance(1_000)
            self.ssc.runBatch()
        return self

    def fail_once(self) -> Self:
        """A batch that is begun and does not end."""
        self.fail = True
        with pytest.raises(UserFunctionError):
            self.run()
        self.fail = False
        return self

    def stop(self) -> Self:
        """The end of this start."""
        self.ssc.stop(stopSparkContext=False)
        return self


def test_new_files_are_read_once(context: LocalContext, tmp_path: Path) -> None:
    """A file is read in the first batch after it came, and never again; hidden ones and those there before are not."""
    watching = Watching(context, tmp_path).put("old", "old\n").start().run()
    watching.put("a", "1\n2\n").put("b", "3\n").put(".hidden", "no\n").run()
    (watching.folder / "a").write_text("changed\n")
    watching.run().put("c", "4").run().stop()

    assert watching.seen == [[], ["1", "2", "3"], [], ["4"]]


def test_a_file_with_an_old_time_is_read(context: LocalContext, tmp_path: Path) -> None:
    """A file that is moved in with a modification time of long ago is read, and files come oldest first."""
    watching = Watching(context, tmp_path).start().run()
    watching.put("a", "new\n", modified=1_000_000_000).put("b", "old\n", modified=5).run().stop()

    assert watching.seen == [[], ["old", "new"]]


def test_files_that_came_while_it_was_down_are_read_once(context: LocalContext, tmp_path: Path) -> None:
    """A restart reads what came since the last batch, and nothing that a committed batch has."""
    watching = Watching(context, tmp_path).start().put("a", "1\n").run().stop()
    watching.put("b", "2\n").start().run().stop().start().run(2).put("c", "3\n").run().stop()

    assert watching.seen == [["1"], ["2"], [], [], ["3"]]


def test_empty_folder_of_the_first_start_is_remembered(context: LocalContext, tmp_path: Path) -> None:
    """What comes into an empty folder after a first start that ran no batch is new."""
    watching = Watching(context, tmp_path).start().stop().put("a", "1\n").start().run().stop()

    assert watching.seen == [["1"]]


def test_begun_batch_reads_the_same_files_again(context: LocalContext, tmp_path: Path) -> None:
    """A batch that runs again reads its own files to the length they had, and later ones come after it."""
    watching = Watching(context, tmp_path).start().put("a", "1\n").fail_once().stop()
    with (watching.folder / "a").open("a") as file:
        file.write("later\n")
    watching.put("b", "2\n").start().run().stop()

    assert watching.seen == [["1"], ["2"]]


@pytest.mark.parametrize("change", [os.unlink, lambda path: os.truncate(path, 1)])
def test_file_that_is_gone_ends_the_batch(
    context: LocalContext, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """A file that left or shrank before its batch was committed ends the stream with its path and the remedy."""
    watching = Watching(context, tmp_path).start().put("a", "1\n").fail_once().stop()
    change(watching.folder / "a")
    with pytest.raises(SourceError, match=r"in/a .*put it back"):
        watching.start()
    watching.stop()


def test_empty_file_waits_until_it_has_bytes(context: LocalContext, tmp_path: Path) -> None:
    """A file that is still empty is not taken, and is read when it has its bytes."""
    watching = Watching(context, tmp_path).start().put("a", "").run()
    (watching.folder / "a").write_text("1\n")
    watching.run().stop()

    assert watching.seen == [[], ["1"]]


def test_patterns_name_folders_and_files(context: LocalContext, tmp_path: Path) -> None:
    """A pattern may name several folders, or files, and a folder may come to be after the start."""
    for pattern in ("day-*", "day-*/*.log"):
        base = tmp_path / pattern.replace("*", "x").replace("/", "_")
        base.mkdir()
        watching = Watching(context, base, lambda ssc, folder, pattern=pattern: text(ssc, folder / pattern))  # type: ignore[misc]
        watching.start().run()
        for day in ("day-1", "day-2", "night"):
            (watching.folder / day).mkdir()
            (watching.folder / day / f"{day}.log").write_text(f"{day}\n")
        watching.run(2).stop()

        assert [sorted(batch) for batch in watching.seen] == [[], ["day-1", "day-2"], []]


def test_folder_may_be_given_as_a_uri(context: LocalContext, tmp_path: Path) -> None:
    """A folder with file:// before it is the folder."""
    watching = Watching(context, tmp_path, lambda ssc, folder: ssc.textFileStream(f"file://{folder}"))
    watching.start().put("a", "1\n").run().stop()

    assert watching.seen == [["1"]]


def test_name_is_free_a_minute_after_its_file_left(context: LocalContext, tmp_path: Path) -> None:
    """A file that takes the name of one that left is new after a minute, and not before."""
    watching = Watching(context, tmp_path).start().put("a", "1\n").run()
    (watching.folder / "a").unlink()
    watching.run(5).put("a", "too early\n").run(60)
    (watching.folder / "a").unlink()
    watching.run(63).put("a", "2\n").run().stop()

    assert [batch for batch in watching.seen if batch] == [["1"], ["2"]]


def test_file_stream_has_filter_reader_and_old_files(context: LocalContext, tmp_path: Path) -> None:
    """A file stream takes what its filter keeps, old files if asked to, and what its reader makes of each path."""

    def sizes(path: str) -> Iterable[tuple[str, int]]:
        yield Path(path).name, Path(path).stat().st_size

    def make(ssc: StreamingContext, folder: Path) -> DStream[Any]:
        return ssc.fileStream(folder, lambda path: path.endswith(".bin"), newFilesOnly=False, reader=sizes)

    watching = Watching(context, tmp_path, make).put("old.bin", b"12").start().run()
    watching.put(".new.bin", b"1").put("x.txt", b"1").run().stop()

    assert watching.seen == [[("old.bin", 2)], [(".new.bin", 1)]]


def test_filter_that_fails_ends_the_stream(context: LocalContext, tmp_path: Path) -> None:
    """What a filter raises is the user's error, with the stream's name."""
    watching = Watching(context, tmp_path, lambda ssc, folder: ssc.fileStream(folder, lambda path: 1 / 0))  # type: ignore[arg-type, return-value]
    watching.start().put("a", "")
    with pytest.raises(UserFunctionError, match=r"input 'files'.*ZeroDivisionError"):
        watching.run()
    watching.stop()


def test_binary_records_have_their_length(context: LocalContext, tmp_path: Path) -> None:
    """Files are cut into records of one length; a file that does not fit is an error with its size."""
    watching = Watching(context, tmp_path, lambda ssc, folder: ssc.binaryRecordsStream(folder, 3))
    watching.start().put("a", b"abcdef").put("b", b"xyz").put("empty", b"").run()
    watching.put("c", b"abcd")
    with pytest.raises(SourceError, match="in/c has 4 bytes, which is no multiple of the record length 3"):
        watching.run()
    watching.stop()

    assert watching.seen == [[b"abc", b"def", b"xyz"]]


def test_impossible_record_length_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A record length below 1 is refused before the start."""
    with pytest.raises(ConfigurationError, match="recordLength is 0"):
        StreamingContext(context, 1.0).binaryRecordsStream(tmp_path, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"a\n",
        b"a\nb",
        b"\n\n\n",
        b"ab\r\ncd\r\n",
        b"ab\rcd\nef",
        b"x" * 50 + b"\ny",
        b"\n" + b"z" * 9,
    ],
)
def test_parts_have_each_line_once(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a file is cut, its parts have its lines, each once and in order."""
    monkeypatch.setattr(files, "_CHUNK_BYTES", 3)
    path = tmp_path / "lines"
    path.write_bytes(data)
    expected = data.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not expected[-1]:
        expected.pop()
    for step in range(1, len(data) + 2):
        splits = [
            FileSplit(str(path), begin, min(begin + step, len(data)), len(data))
            for begin in range(0, len(data), step)
        ]
        assert list(LinesOf()(iter(splits))) == expected


def test_parts_have_each_record_once(tmp_path: Path) -> None:
    """However a file is cut, its parts have its records, each once and in order."""
    data = bytes(range(60))
    path = tmp_path / "records"
    path.write_bytes(data)
    for step in range(1, 61):
        splits = [FileSplit(str(path), begin, min(begin + step, 60), 60) for begin in range(0, 60, step)]
        assert list(RecordsOf(4)(iter(splits))) == [data[at : at + 4] for at in range(0, 60, 4)]


def test_large_file_is_read_in_parts(
    context: LocalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is cut into partitions, which are read in parallel, and its lines keep their order."""
    monkeypatch.setattr(files, "SPLIT_BYTES", 1_000)
    partitions: list[int] = []
    watching = Watching(context, tmp_path)
    lines = [f"line {number}" for number in range(1_000)]
    watching.start().put("large", "\n".join(lines))
    watching._keep = lambda rdd: (
        partitions.append(rdd.getNumPartitions()),
        watching.seen.append(rdd.collect()),
    )  # type: ignore[method-assign]
    watching.stop().start().run().stop()

    assert watching.seen == [lines]
    assert partitions == [9]


@pytest.mark.parametrize(
    ("end", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed_text_is_unpacked(
    context: LocalContext, tmp_path: Path, end: str, pack: Callable[[bytes], bytes]
) -> None:
    """A file whose name ends as compressed files' do gives the lines that were packed."""
    watching = Watching(context, tmp_path).start().put(f"a.{end}", pack(b"1\n2\n")).run().stop()

    assert watching.seen == [["1", "2"]]


def test_list_of_files_is_written_anew_when_it_grows(
    context: LocalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old parts of the list go, and the names of files that are still in the folder stay known over restarts."""
    monkeypatch.setattr(blocks, "SEGMENT_BYTES", 2_000)
    watching = Watching(context, tmp_path).start()
    for number in range(60):
        watching.put(f"file-{number}", f"{number}\n").run()
        if number % 20 == 19:
            watching.stop().start()
    watching.run().stop()

    assert watching.seen == [*([str(number)] for number in range(60)), []]
    (log,) = (tmp_path / "checkpoints" / "test" / "blocks").iterdir()
    assert "00000000000000000000.0.log" not in {path.name for path in (log / "0").iterdir()}


def test_window_reads_its_files_again(context: LocalContext, tmp_path: Path) -> None:
    """A window over files has the lines of its batches' files, those of before a restart too."""
    watching = Watching(
        context, tmp_path, lambda ssc, folder: ssc.textFileStream(folder).window(2, 1)
    ).start()
    for number in range(3):
        watching.put(f"file-{number}", f"{number}\n").run().stop().start()
    watching.stop()

    assert watching.seen == [["0"], ["0", "1"], ["1", "2"]]


def test_name_that_was_forgotten_is_new_to_a_later_start(context: LocalContext, tmp_path: Path) -> None:
    """A file that takes a forgotten name is new after a restart too, also one that came while the process was down."""
    watching = Watching(context, tmp_path).start().put("a", "1\n").run()
    (watching.folder / "a").unlink()
    watching.run(63).stop().put("a", "2\n").start().run().stop().start().run().stop()

    assert [batch for batch in watching.seen if batch] == [["1"], ["2"]]


def test_first_start_that_was_cut_off_is_made_again(
    context: LocalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between two portions of the names that the first start writes down leaves no old file for new."""
    monkeypatch.setattr(files, "_PORTION", 2)
    watching = Watching(context, tmp_path)
    for number in range(5):
        watching.put(f"old-{number}", "old\n")
    append, appended = blocks.BlockLog.append, []

    def refuse_the_second(log: blocks.BlockLog, values: Any, key: bytes | None = None) -> int:
        appended.append(len(values))
        if len(appended) == 2:
            raise CheckpointWriteError("killed here")
        return append(log, values, key)

    monkeypatch.setattr(blocks.BlockLog, "append", refuse_the_second)
    with pytest.raises(CheckpointWriteError):
        watching.start()
    watching.start().put("new", "1\n").run().stop()

    assert watching.seen == [["1"]]
    assert appended == [2, 2, 2, 2, 2, 1]


def test_names_are_written_anew_when_the_list_has_doubled(
    context: LocalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What all names cost is not paid at each batch, however small segments are."""
    monkeypatch.setattr(blocks, "SEGMENT_BYTES", 1_000)
    append, appended = blocks.BlockLog.append, []

    def count(log: blocks.BlockLog, values: Any, key: bytes | None = None) -> int:
        appended.append(len(values))
        return append(log, values, key)

    monkeypatch.setattr(blocks.BlockLog, "append", count)
    watching = Watching(context, tmp_path)
    for number in range(30):
        watching.put(f"old-{number}", "old\n")
    watching.start()
    for number in range(40):
        watching.put(f"new-{number}", f"{number}\n").run()
    watching.stop().start().run().stop()

    assert watching.seen == [*([str(number)] for number in range(40)), []]
    assert sum(appended) < 200


def test_stop_iteration_of_a_reader_is_an_error(context: LocalContext, tmp_path: Path) -> None:
    """A reader that raises StopIteration ends the batch and not, in silence, the other files of its partition."""

    def first_word(path: str) -> list[str]:
        return [next(iter(Path(path).read_text().split()))]

    watching = Watching(context, tmp_path, lambda ssc, folder: ssc.fileStream(folder, reader=first_word))
    watching.start().put("a", " ").put("b", "word")
    with pytest.raises(UserFunctionError, match="StopIteration"):
        watching.run()
    watching.stop()
