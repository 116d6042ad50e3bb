"""Streams of the files that appear in a folder.

Which files a batch has is a range of a list in the block log, durable BEFORE the batch begins, so a batch that runs again reads the
same files. Tasks read them, by path and byte range, each to the length that it had when it was listed.

    record of the list: msgpack (path, size in bytes, modification time in ns, 1 when a batch reads it, 0 when it was only seen);
    a size of -1 says that the name is forgotten, and an empty path that all that was there at the first start is written down

A file is new when its name was not there at the first start and no batch has taken it. Modification times decide nothing, so a file that
is moved in late with an old one is read, which Spark leaves out. A name that left the folder is forgotten after a minute; a file that
takes it later is new.

Owns: FileInputDStream, FileSplit, LinesOf, RecordsOf, WholeFiles.
Never: the contents of a file in the driver.
"""

import bz2
import glob
import gzip
import logging
import lzma
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from engine.batch import Batch, OffsetRange, Time
from engine.dstream.nodes import BatchScope, naming_errors
from engine.errors import ConfigurationError, SourceError
from engine.rdd.api import RDD
from engine.rdd.paths import mounted_path
from engine.sources.blocks import Blocks, LoggedInputDStream

log = logging.getLogger(__name__)

SPLIT_BYTES = 8 << 20
"""A file that can be cut is read in parts of this size, in parallel."""
MAX_PARTITIONS = 64
"""Parts of one batch are spread over at most so many RDD partitions; fixed, so that a replay has the same."""
REMEMBER_MS = 60_000
"""How long the name of a file that is gone is remembered at least, as in Spark."""
_CHUNK_BYTES = 1 << 20
_PORTION = 4_000
"""Names that are written down at a time: of the longest ones, 4 KiB each, a quarter of what one append may be."""
_GONE = -1
"""The size of a name that is forgotten."""

Filter = Callable[[str], bool]


def is_visible(path: str) -> bool:
    """Whether a file's name does not begin with a dot: what is still written hides behind one.

    Example:
        >>> is_visible("/in/part-0"), is_visible("/in/.part-0.tmp")
        (True, False)
    """
    return not os.path.basename(path).startswith(".")  # noqa: PTH119  a Path an entry costs more than the listing


class _Listed(msgspec.Struct, array_like=True, frozen=True):
    """A record of the list of files."""

    path: str
    """Empty in the record that stands behind what was there at the first start."""
    size: int
    """Bytes; -1 in the record that forgets the name."""
    modified_ns: int
    is_taken: bool


_decode_listed = msgspec.msgpack.Decoder(_Listed).decode
_encode_listed = msgspec.msgpack.Encoder().encode


class FileSplit(NamedTuple):
    """A part of a file: the bytes [begin, until)."""

    path: str
    begin: int
    until: int
    size: int
    """Length of the file when it was listed, bytes."""


class LinesOf:
    """The lines of text files, UTF-8, without their ends (LF, CR LF or CR), as Hadoop's text input gives them.

    A line belongs to the part in which it begins, so parts have each line once.
    """

    cuts = True

    def __call__(self, splits: Iterator[FileSplit]) -> Iterator[str]:
        """The lines of some parts."""
        return chain.from_iterable(chain.from_iterable(map(_lines, splits)))


_OPENERS: dict[str, Callable[[str], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""By the end of its name how a compressed file of text is read; it is one part."""


def _opener(path: str) -> Callable[[str], Any] | None:
    return _OPENERS.get(os.path.splitext(path)[1])  # noqa: PTH122  a Path an entry costs more than the listing


def _lines(split: FileSplit) -> Iterator[list[str]]:
    """The lines of a part, a chunk's at a time."""
    rest = b""
    opener = _opener(split.path)
    for chunk in _chunks_to_line_end(split) if opener is None else _unpacked(split, opener):
        data = rest + chunk
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield _text_lines(data[:end])
    if rest:
        yield _text_lines(rest)


def _text_lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "replace")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _unpacked(split: FileSplit, opener: Callable[[str], Any]) -> Iterator[bytes]:
    """The bytes of a compressed file."""
    _opened(split).close()
    with opener(split.path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _chunks_to_line_end(split: FileSplit) -> Iterator[bytes]:
    """The bytes of the lines that begin in a part."""
    with _opened(split) as file:
        position = split.begin
        if position:
            # The line that holds the byte before the part belongs to the part before.
            file.seek(position - 1)
            position += len(file.readline(split.size - position + 1)) - 1
        while position < split.until:
            chunk = file.read(min(_CHUNK_BYTES, split.until - position))
            if not chunk:
                raise _shrunk(split)
            position += len(chunk)
            yield chunk
        if split.begin < position < split.size and position == split.until:
            file.seek(position - 1)
            yield file.readline(split.size - position + 1)[1:]


def _opened(split: FileSplit) -> Any:
    """The file of a part.

    Raises:
        SourceError: it is gone, or shorter than it was.
    """
    try:
        file = open(split.path, "rb")  # noqa: SIM115, PTH123  the caller closes it
    except OSError as cause:
        raise SourceError(
            f"{split.path} was listed and cannot be read now ({os.strerror(cause.errno or 0)}); put it back: "
            "files stay until their batch is committed, and until the longest window has left it"
        ) from cause
    if os.fstat(file.fileno()).st_size < split.size:
        file.close()
        raise _shrunk(split)
    return file


def _shrunk(split: FileSplit) -> SourceError:
    return SourceError(
        f"{split.path} had {split.size} bytes when it was listed and has fewer now; put it back, and move files "
        "in by a rename when they are whole"
    )


class RecordsOf:
    """Records of one length from binary files.

    Args:
        length: of a record, bytes.
    """

    cuts = True

    def __init__(self, length: int) -> None:
        if not isinstance(length, int) or length < 1:
            raise ConfigurationError(f"recordLength is {length!r:.60}; give a number of bytes of at least 1")
        self._length = length

    def __call__(self, splits: Iterator[FileSplit]) -> Iterator[bytes]:
        """The records of some parts."""
        return chain.from_iterable(map(self._records, splits))

    def _records(self, split: FileSplit) -> Iterator[bytes]:
        length = self._length
        if split.size % length:
            raise SourceError(
                f"{split.path} has {split.size} bytes, which is no multiple of the record length {length}; mend the file"
            )
        # A record belongs to the part in which it begins.
        begin, until = (-(-edge // length) * length for edge in (split.begin, split.until))
        with _opened(split) as file:
            file.seek(begin)
            while begin < until:
                data = file.read(min(max(_CHUNK_BYTES // length, 1) * length, until - begin))
                if len(data) % length or not data:
                    raise _shrunk(split)
                yield from (data[at : at + length] for at in range(0, len(data), length))
                begin += len(data)


class WholeFiles:
    """The elements that a function of the user reads from each file.

    Args:
        reader: of a path, called in tasks.
    """

    cuts = False

    def __init__(self, reader: Callable[[str], Iterable[Any]]) -> None:
        self._reader = reader

    def __call__(self, splits: Iterator[FileSplit]) -> Iterator[Any]:
        """The elements of some files."""
        # A generator: a StopIteration that the reader raises is an error here, and not the end of the files.
        for split in splits:
            _opened(split).close()
            yield from self._reader(split.path)


Reader = LinesOf | RecordsOf | WholeFiles


class FileInputDStream(LoggedInputDStream):
    """The elements of the files that are new in a folder.

    Args:
        scope: the graph.
        directory: a folder, or a pattern of folders or files.
        keeps: which files count, by path.
        new_files_only: leave out what is there at the first start.
        reader: makes elements of parts of files, in tasks.
        label: the operator's name in the lineage.
        name: of the stream; None takes the label.
    """

    tasks_read_folder = False

    def __init__(
        self,
        scope: BatchScope,
        directory: str | os.PathLike[str],
        keeps: Filter,
        new_files_only: bool,
        reader: Reader,
        label: str,
        name: str | None = None,
    ) -> None:
        super().__init__(scope, [], scope.batch_duration, label, name)
        self._pattern = str(mounted_path(directory, f"{label}: the directory"))
        self._keeps = keeps
        self._new_files_only = new_files_only
        self._reader = reader
        self._known: set[str] = set()
        """Paths of the files that are not new."""
        self._gone: dict[str, int] = {}
        """By path of a known file that is not there: since which batch time."""
        self._is_missing = False

    def open(self, blocks: Blocks) -> None:
        """Open the list of files; at the very first start, write down what is there already."""
        super().open(blocks)
        self._known, self._gone = set(), {}
        for each in self._listed(self.log.begin, self.log.end):
            if each.size == _GONE:
                self._known.discard(each.path)
            else:
                self._known.add(each.path)
        if "" not in self._known:
            self._known = set()
            found = self._new_files() if self._new_files_only else []
            # The last record tells a later start that this one saw everything.
            self._write([*found, _Listed("", 0, 0, False)], is_taken=False)
            self._position = self.log.end

    def _listed(self, begin: int, until: int) -> list[_Listed]:
        return [_decode_listed(data) for data in self.log.read(begin, until) if data is not None]

    def _write(self, files: Sequence[_Listed], *, is_taken: bool) -> None:
        for begin in range(0, len(files), _PORTION):
            portion = files[begin : begin + _PORTION]
            self.log.append(
                [_encode_listed(msgspec.structs.replace(each, is_taken=is_taken)) for each in portion]
            )
            self._known.update(each.path for each in portion)

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:
        """The files that came since the last plan."""
        with naming_errors(f"input {self.name!r}", time):
            self._write(self._new_files(time), is_taken=True)
        return super().plan(time)

    def _new_files(self, time: Time | None = None) -> list[_Listed]:
        """The files that are not known, oldest first; names that are gone for long are forgotten."""
        paths = set(self._paths())
        if time is not None and not self._is_missing:
            self._forget(paths, time)
        new = []
        for path in paths - self._known:
            if self._keeps(path):
                try:
                    status = os.stat(path)  # noqa: PTH116  one call a new file, no object
                except FileNotFoundError:
                    continue  # it has left again
                if time is not None and not status.st_size:
                    continue  # somebody has begun to write it; an empty file has nothing to read
                new.append(_Listed(path, status.st_size, status.st_mtime_ns, False))
        return sorted(new, key=lambda each: (each.modified_ns, each.path))

    def _forget(self, paths: set[str], time: Time) -> None:
        """Forget the names of files that left long ago, durably: a later start takes them for new too."""
        self._gone = {path: self._gone.get(path, int(time)) for path in self._known - paths if path}
        horizon = time - max(REMEMBER_MS, self.scope.remember)
        forgotten = sorted(path for path, since in self._gone.items() if since < horizon)
        if forgotten:
            has_backlog = self._position < self.log.end
            self._write([_Listed(path, _GONE, 0, False) for path in forgotten], is_taken=False)
            self._known.difference_update(forgotten)
            if not has_backlog:
                self._position = self.log.end

    def _paths(self) -> Iterator[str]:
        """Every file that the pattern names, in the folders that it names."""
        places = glob.glob(self._pattern) if glob.has_magic(self._pattern) else [self._pattern]  # noqa: PTH207  as above
        found = False
        for place in places:
            try:
                with os.scandir(place) as entries:
                    yield from (entry.path for entry in entries if entry.is_file())
                found = True
            except NotADirectoryError:
                found = True
                yield place
            except FileNotFoundError:
                pass
        if not found and not self._is_missing:
            log.warning("input %r: there is no folder %s yet; it may come later", self.name, self._pattern)
        self._is_missing = not found

    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:  # noqa: ARG002  a range says all
        """The elements of the files."""
        listed = chain.from_iterable(self._listed(part.fromOffset, part.untilOffset) for part in ranges)
        splits = [split for each in listed if each.is_taken for split in self._cut(each)]
        if not splits:
            return self.scope.context.emptyRDD()
        count = min(len(splits), MAX_PARTITIONS)
        return self.scope.context.parallelize(splits, count).mapPartitions(self._reader)

    def _cut(self, each: _Listed) -> Iterator[FileSplit]:
        step = SPLIT_BYTES if self._reader.cuts and not _opener(each.path) else max(each.size, 1)
        for begin in range(0, each.size, step):
            yield FileSplit(each.path, begin, min(begin + step, each.size), each.size)

    @property
    def has_backlog(self) -> bool:
        """No: what no batch has listed is still in the folder."""
        return False

    def let_go(self, time: Time) -> None:
        """Delete what only old batches need; the names that are still in the folder are written down again first.

        As that costs what all names cost, it waits until the list holds twice as many records.
        """
        oldest = self.oldest_needed(time)
        if self.log.would_release(oldest) and self.log.end - self.log.begin > 2 * len(self._known):
            # The mark comes last, as at the first start; it is in the old part until then.
            names = sorted(self._known, reverse=True)
            self._write([_Listed(path, 0, 0, False) for path in names], is_taken=False)
            self._position = self.log.end
            self.log.release(oldest)
