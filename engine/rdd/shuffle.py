"""The exchange between two stages: what a map task writes, what a task of the next stage reads and merges.

A bucket is the blocks (see serializers) that one map task has for one partition. Small buckets travel through the driver with the
task's result, which is what keeps an empty batch short. Beyond `INLINE_BYTES` a map task writes its buckets to one file
and only their places travel. A task holds no more than its executor's limit: a map task writes out what it has combined so far,
a reading task lays its pairs aside on disk by a second hash, and takes those parts one at a time.

Owns: Writer, Watch, Chunks, Parts, blocks_of, columns_of, elements_of, merged, combined_here.
Never: a decision which task runs where.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, compress, islice
from typing import Any, Final

from engine.rdd.fuse import Function, combine_of
from engine.rdd.partitioner import partitions_of
from engine.rdd.scratch import Appended, Disk, Place, blocks_at
from engine.rdd.serializers import Block, dump_block, load_blocks

INLINE_BYTES: Final = 256 * 1_024
"""Most bytes of a map task's buckets that travel through the driver."""
_HELD_BYTES: Final = 8 * 1_024 * 1_024
"""Most bytes of a map task's buckets before they are appended to its file."""
_CHUNK_BYTES: Final = 1_024 * 1_024
"""What a chunk of records aims at, serialised."""
_FIRST_CHUNK: Final = 512
_LEAST_CHUNK: Final = 8
_MOST_CHUNK: Final = 65_536
_FEW: Final = 4
"""Up to so many partitions picking each one's records out of a chunk is faster than appending record by record."""
PARTS: Final = 16
"""Into how many parts pairs are laid aside by their second hash."""
DEPTH: Final = 3
"""How often a part that is still too large is divided again."""

Bucket = bytes | Place


class Chunks:
    """Cuts a partition into lists of about equal size in bytes, whatever the size of a record."""

    def __init__(self) -> None:
        self._records = _FIRST_CHUNK

    def of(self, elements: Iterable[Any]) -> Iterator[list[Any]]:
        """The elements in lists."""
        iterator = iter(elements)
        while chunk := list(islice(iterator, self._records)):
            yield chunk

    def learn(self, records: int, size_bytes: int) -> None:
        """So many records had so many bytes."""
        wanted = records * _CHUNK_BYTES // max(size_bytes, 1)
        self._records = max(_LEAST_CHUNK, min(_MOST_CHUNK, wanted, self._records * 8))


class Writer:
    """The buckets of one map task."""

    def __init__(self, disk: Disk, name: str, partitions: int) -> None:
        self._disk = disk
        self._name = name
        self._partitions = partitions
        self._held: list[list[bytes]] = [[] for _ in range(partitions)]
        self._held_bytes = 0
        self._file: Appended | None = None
        self._stretches: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]

    def add(self, partition: int, keys: list[Any] | None, values: list[Any]) -> int:
        """One block more of a partition; returns its size in bytes."""
        if not values:
            return 0
        block = dump_block(keys, values)
        self._held[partition].append(block)
        self._held_bytes += len(block)
        if self._held_bytes > _HELD_BYTES:
            self._write()
        return len(block)

    def pairs(self, elements: Iterable[tuple[Any, Any]], function: Function | None) -> None:
        """Pairs, each to the partition of its key."""
        chunks = Chunks()
        for chunk in chunks.of(elements):
            keys, values = columns_of(chunk)
            chunks.learn(len(chunk), self.columns(keys, values, function))

    def combined(self, combined: dict[Any, Any], function: Function | None) -> None:
        """Combiners, each to the partition of its key; the dict is empty afterwards."""
        if len(combined) <= _FIRST_CHUNK:
            if combined:
                self.columns(list(combined), list(combined.values()), function)
            combined.clear()
            return
        chunks = Chunks()
        keys, values = chunks.of(list(combined)), list(combined.values())
        combined.clear()
        at = 0
        for chunk in keys:
            chunks.learn(len(chunk), self.columns(chunk, values[at : at + len(chunk)], function))
            at += len(chunk)

    def columns(self, keys: list[Any], values: list[Any], function: Function | None) -> int:
        """Keys and their values, each to its partition; returns their size in bytes."""
        if self._partitions == 1:
            if function is None:
                partitions_of(
                    keys[:1], 1, None
                )  # refuses a key that cannot be one, however few partitions there are
            return self.add(0, keys, values)
        places = partitions_of(keys, self._partitions, function)
        if places.count(places[0]) == len(places):
            return self.add(places[0], keys, values)
        return sum(
            self.add(place, own_keys, own_values)
            for place, own_keys, own_values in divided(keys, values, places, self._partitions)
        )

    def dealt(self, elements: Iterable[Any], begin: int) -> None:
        """Elements, one to each partition in turn."""
        chunks = Chunks()
        for chunk in chunks.of(elements):
            size = 0
            for offset in range(min(self._partitions, len(chunk))):
                size += self.add((begin + offset) % self._partitions, None, chunk[offset :: self._partitions])
            begin += len(chunk)
            chunks.learn(len(chunk), size)

    def finish(self) -> list[Bucket]:
        """Each partition's bucket."""
        if self._file is None and self._held_bytes <= INLINE_BYTES:
            return [b"".join(blocks) for blocks in self._held]
        file = self._write()
        return [file.place(stretches) if stretches else b"" for stretches in self._stretches]

    def _write(self) -> Appended:
        file = self._file = self._file or self._disk.shuffle_file(self._name)
        for stretches, blocks in zip(self._stretches, self._held, strict=True):
            if blocks:
                stretches.append(file.append(b"".join(blocks)))
                blocks.clear()
        self._disk.shuffled_bytes += self._held_bytes
        self._held_bytes = 0
        return file


class Watch:
    """Stands between a source of records and a loop that holds them: calls for a spill between records when that is too much."""

    def __init__(self, disk: Disk, held: dict[Any, Any], spill: Callable[[], None]) -> None:
        self._growth = disk.growth()
        self._limit_bytes = disk.limit_bytes
        self._held = held
        self._spill = spill
        self._size = 64

    def __call__(self, elements: Iterable[Any]) -> Iterable[Any]:
        """The elements."""
        return chain.from_iterable(self._slices(iter(elements)))

    def _slices(self, elements: Iterator[Any]) -> Iterator[list[Any]]:
        while taken := list(islice(elements, self._size)):
            yield taken
            if self._growth.is_over(len(self._held)):
                self._spill()
                self._growth.let_go()
            self._size = min(self._size * 2, 4_096)


def columns_of(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """The keys and the values of pairs."""
    return [key for key, _ in pairs], [value for _, value in pairs]


def blocks_of(buckets: list[Bucket]) -> Iterator[Block]:
    """What map tasks wrote for one partition, in map order; of files one block at a time."""
    for bucket in buckets:
        if bucket:
            yield from load_blocks(bucket) if isinstance(bucket, bytes) else blocks_at(bucket)


def elements_of(blocks: Iterable[Block]) -> Iterator[Any]:
    """The pairs of the blocks, or their values where there are no keys."""
    return chain.from_iterable(
        values if keys is None else zip(keys, values, strict=True) for keys, values in blocks
    )


def pair_blocks(elements: Iterable[tuple[Any, Any]]) -> Iterator[Block]:
    """Pairs as blocks."""
    return map(columns_of, Chunks().of(elements))


def value_blocks(elements: Iterable[Any]) -> Iterator[Block]:
    """Elements as blocks without keys."""
    return ((None, chunk) for chunk in Chunks().of(elements))


def divided(
    keys: list[Any], values: list[Any], places: list[int], count: int
) -> Iterator[tuple[int, list[Any], list[Any]]]:
    """(place, its keys, its values) of those of `count` places that have any."""
    if count <= _FEW:
        for place in range(count):
            mine = [other == place for other in places]
            yield place, list(compress(keys, mine)), list(compress(values, mine))
        return
    key_lists: list[list[Any]] = [[] for _ in range(count)]
    value_lists: list[list[Any]] = [[] for _ in range(count)]
    for key, value, place in zip(keys, values, places, strict=True):
        key_lists[place].append(key)
        value_lists[place].append(value)
    for place in range(count):
        if key_lists[place]:
            yield place, key_lists[place], value_lists[place]


class Parts:
    """Pairs laid aside on disk by a second hash of their keys, in a file without a name."""

    def __init__(self, disk: Disk, level: int) -> None:
        self._disk = disk
        self._level = level
        self._file = disk.temporary()
        self._stretches: list[list[tuple[int, int]]] = [[] for _ in range(PARTS)]

    def add(self, keys: list[Any], values: list[Any]) -> None:
        """Lay pairs aside."""
        # Another hash than the one that chose the partition, and another one at each level.
        places = [hash((self._level, key)) % PARTS for key in keys]
        for place, own_keys, own_values in divided(keys, values, places, PARTS):
            stretch = self._file.append(dump_block(own_keys, own_values))
            self._stretches[place].append(stretch)
            self._disk.spilled_bytes += stretch[1]

    def blocks(self, part: int) -> Iterator[Block]:
        """The pairs of one part, in the order in which they came."""
        return self._file.blocks(self._stretches[part])


def merged(blocks: Iterable[Block], merge: Function, disk: Disk, level: int = 0) -> Iterator[tuple[Any, Any]]:
    """One pair a key; in each block a key stands once."""
    known: dict[Any, Any] = {}
    parts: Parts | None = None
    growth = disk.growth()
    for keys, values in blocks:
        if known and not known.keys().isdisjoint(keys or ()):
            combine_of((), (), zip(keys or (), values, strict=True), None, merge, known)
        else:
            known.update(zip(keys or (), values, strict=True))
        if growth.is_over(len(known)) and level <= DEPTH:
            parts = parts or Parts(disk, level)
            _lay_aside(known, parts)
            growth.let_go()
    if parts is None:
        return iter(known.items())
    _lay_aside(known, parts)
    return _merged_parts(parts, merge, disk, level + 1)


def _merged_parts(parts: Parts, merge: Function, disk: Disk, level: int) -> Iterator[tuple[Any, Any]]:
    return chain.from_iterable(merged(parts.blocks(part), merge, disk, level) for part in range(PARTS))


def _lay_aside(known: dict[Any, Any], parts: Parts) -> None:
    keys = list(known)
    values = list(known.values())
    known.clear()
    for at in range(0, len(keys), _MOST_CHUNK):
        parts.add(keys[at : at + _MOST_CHUNK], values[at : at + _MOST_CHUNK])


def combined_here(
    combine: Callable[[dict[Any, Any], Watch], object], merge: Function, disk: Disk
) -> Iterator[tuple[Any, Any]]:
    """One pair a key of what `combine` puts into its dict; `merge` merges two combiners of a key."""
    known: dict[Any, Any] = {}
    parts: list[Parts] = []

    def spill() -> None:
        if not parts:
            parts.append(Parts(disk, 0))
        _lay_aside(known, parts[0])

    combine(known, Watch(disk, known, spill))
    if not parts:
        return iter(known.items())
    spill()
    return _merged_parts(parts[0], merge, disk, 1)
