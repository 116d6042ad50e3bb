"""A stream of batches that the program itself puts into a queue, for tests, examples and small feeds.

Where an application has a checkpoint folder, an item is in the block log BEFORE a batch is made of it: record n of the log is item n.

Owns: QueueInputDStream.
Never: an item in two batches.
"""

import copy
import queue
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from engine.batch import Batch, OffsetRange, Time
from engine.checkpoint.codec import is_plain
from engine.dstream.nodes import BatchScope, naming_errors
from engine.errors import CheckpointError, ConfigurationError, SourceError
from engine.rdd.api import RDD, Context
from engine.sources.blocks import Blocks, LoggedInputDStream
from engine.sources.elements import decode_element, encode_element

QUEUE = "queue"

Queue = Sequence[Any] | queue.Queue[Any] | queue.SimpleQueue[Any]


_LIST_REMEDY = "start with the same items in it, with an empty list, or with a collections.deque, from which items are taken out"


class _Item:
    """One item of the queue: its elements in slices, or an RDD whose elements the driver does not have.

    Args:
        slices: the elements of each partition; of a list, all in one slice.
        is_list: whether it was given as a list, which the backend spreads as it does any list.
        rdd: what was given, in place of slices.
    """

    def __init__(self, slices: list[list[Any]], *, is_list: bool, rdd: RDD[Any] | None = None) -> None:
        self._slices = slices
        self._is_list = is_list
        self._rdd = rdd

    @classmethod
    def of(cls, given: Any) -> "_Item":
        """An item as the program gave it; what it changes in it later is not seen."""
        if hasattr(given, "mapPartitions"):
            return cls([], is_list=False, rdd=given)
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise ConfigurationError(
                f"an item of the queue is {given!r:.60}, of type {type(given).__name__}; give a list of elements, or an RDD"
            )
        return cls([_own(list(given))], is_list=True)

    @classmethod
    def decoded(cls, data: bytes) -> "_Item":
        """An item of the log."""
        is_list, slices = decode_element(data)
        return cls(slices, is_list=is_list)

    def collected(self) -> "_Item":
        """The item with its elements in the driver."""
        return self if self._rdd is None else _Item(self._rdd.glom().collect(), is_list=False)

    def encoded(self) -> bytes:
        """The bytes of a collected item."""
        return encode_element((self._is_list, self._slices))

    @property
    def size(self) -> int:
        """Number of elements; 0 where only a job could tell."""
        return sum(map(len, self._slices))

    def rdds(self, context: Context) -> list[RDD[Any]]:
        """The elements; each reader may change them in place, as parallelize serialises those that can be."""
        if self._rdd is not None:
            return [self._rdd]
        if self._is_list:
            return [context.parallelize(self._slices[0])]
        return [context.parallelize(part, 1) for part in self._slices]


def _own(elements: list[Any]) -> list[Any]:
    """The elements, those that could be changed in place as copies."""
    if all(map(is_plain, elements)):
        return elements
    try:
        return copy.deepcopy(elements)
    except TypeError:  # what cannot be copied cannot be shipped either; the job that needs to says so
        return elements


class _Place(NamedTuple):
    """Where an item stands among all that were taken."""

    offset: int
    """Of its first element, counted over all items."""
    number: int
    """From 0: its place in a list, and its offset in the block log."""
    width: int
    """Offsets that it takes: its elements, and 1 where there are none or only a job could tell."""


_place_bytes = msgspec.msgpack.Encoder().encode
_place_of = msgspec.msgpack.Decoder(tuple[int, int, int]).decode


class QueueInputDStream(LoggedInputDStream):
    """One item of a queue a batch, each a list of elements or an RDD; items that come later are seen.

    A range counts elements. An item without elements counts as one: its batch has the item's empty partitions, and one in which nothing
    waited has none.

    Replay: an item that a batch has taken is in the block log, so the batch has it again.
    """

    tasks_read_folder = False

    def __init__(self, scope: BatchScope, items: Queue, *, one_at_a_time: bool, default: Any | None) -> None:
        super().__init__(scope, [], scope.batch_duration, QUEUE)
        self._queue = items
        self._list = items if isinstance(items, Sequence) and not isinstance(items, deque) else None
        """The queue where it is a list, which is read by position."""
        self._first = 0
        """Number of the list's first item."""
        self._one_at_a_time = one_at_a_time
        self._default = None if default is None else _Item.of(default)
        self._kept: dict[int, _Item] = {}
        """By number the items that were taken and a batch may still need."""
        self._places: list[_Place] = []
        """Of the items that are kept, or in the log."""
        self._end = _Place(0, 0, 0)
        """Where the next item goes that is taken."""
        self._next_number = 0
        """Of the first item that is in no batch."""
        self._is_logged = False

    def open(self, blocks: Blocks) -> None:
        """Open the log of an application with a checkpoint folder; without one there is no later start.

        Raises:
            SourceError: the queue is a list that holds other items than were taken from it.
        """
        # A folder that is given up for a new one is opened again: nothing of the old one counts.
        self._first, self._next_number, self._position = 0, 0, 0
        self._kept, self._places, self._end = {}, [], _Place(0, 0, 0)
        self._is_logged = blocks.is_durable
        if not self._is_logged:
            return
        super().open(blocks)
        self._places = [_Place(*_place_of(key)) for key in self.log.keys()]  # noqa: SIM118  no dict
        if self._places:
            self._position = self._places[0].offset
            self._next_number = self._places[0].number
            last = self._places[-1]
            self._end = _Place(last.offset + last.width, last.number + 1, 0)
            if self._list is not None:
                # Here, and not when batches go on: the process may have died before its first commit.
                self._recognise(self._list)

    def resume(self, ranges: Sequence[OffsetRange]) -> None:
        """Go on after the items of these ranges.

        Raises:
            CheckpointError: the log does not reach that far.
            SourceError: the queue is a list that holds fewer items than were taken from it, and is not empty.
        """
        self._pass(ranges)
        self._refuse_beyond_the_end(self._position)
        if self._list and not self._first and len(self._list) < self._next_number:
            raise SourceError(
                f"the list of {self.name!r} holds {len(self._list)} items, and {self._next_number} were taken before the restart; "
                f"{_LIST_REMEDY}"
            )

    def _refuse_beyond_the_end(self, offset: int) -> None:
        if offset > self._end.offset:
            raise CheckpointError(
                f"the block log of {self.name!r} ends at {self._end.offset}, and a batch has elements up to {offset}; "
                "restore the folder blocks, or start with an empty checkpoint folder"
            )

    def _recognise(self, items: Sequence[Any]) -> None:
        """Find out what a list holds after a restart: nothing yet, or what it held before."""
        if not items:
            self._first = self._end.number
            return
        last = min(self._end.number, len(items)) - 1
        if last >= self._places[0].number:
            (known,) = self.log.read(last, last + 1)
            if known is not None and known != self._bytes_of(_Item.of(items[last]).collected()):
                raise SourceError(
                    f"item {last} in the list of {self.name!r} is another than was taken before the restart; {_LIST_REMEDY}"
                )

    def _pass(self, ranges: Sequence[OffsetRange]) -> None:
        """Go on after the items of these ranges."""
        self._position = max((part.untilOffset for part in ranges), default=self._position)
        left = (place.number for place in self._places if place.offset + place.width > self._position)
        self._next_number = max(self._next_number, next(left, self._end.number))

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:
        """The next item, or all that wait."""
        while not (self._one_at_a_time and self._next_number < self._end.number) and self._take(time):
            pass
        end = self._end.number
        if self._one_at_a_time:
            end = min(end, self._next_number + 1)
        planned = [place for place in self._places if self._next_number <= place.number < end]
        self._next_number = end
        until = max([self._position, *(place.offset + place.width for place in planned)])
        return (OffsetRange(self.name, 0, self._position, until),)

    def _take(self, time: Time) -> bool:
        """Take the next item, durably where a later start may need it; returns whether there was one."""
        found, given = self._next()
        if found:
            with naming_errors(f"input {self.name!r}", time):
                item = _Item.of(given).collected() if self._is_logged else _Item.of(given)
                place = self._end._replace(width=max(item.size, 1))
                if self._is_logged:
                    self.log.append([self._bytes_of(item)], _place_bytes(place))
            self._kept[place.number] = item
            self._places.append(place)
            self._end = _Place(place.offset + place.width, place.number + 1, 0)
        return found

    def _next(self) -> tuple[bool, Any]:
        """Whether there is another item, and the item; out of a deque or queue it is taken."""
        if self._list is not None:
            index = self._end.number - self._first
            has_more = index < len(self._list)
            return has_more, self._list[index] if has_more else None
        try:
            return True, self._queue.popleft() if isinstance(self._queue, deque) else self._queue.get_nowait()  # type: ignore[union-attr]  # no list
        except (IndexError, queue.Empty):
            return False, None

    def _bytes_of(self, item: _Item) -> bytes | None:
        """What the log holds of an item; nothing of one that it cannot hold: then the list has to hold it again."""
        try:
            return item.encoded()
        except ConfigurationError:
            if self._list is None:
                raise
            return None

    def _item(self, number: int) -> _Item:
        """A taken item; one of an earlier process comes from the log."""
        if number not in self._kept:
            (data,) = self.log.read(number, number + 1)
            self._kept[number] = self._given_again(number) if data is None else _Item.decoded(data)
        return self._kept[number]

    def _given_again(self, number: int) -> _Item:
        if self._list is None or not self._first <= number < self._first + len(self._list):
            raise SourceError(
                f"item {number} of {self.name!r} has elements that the block log cannot hold, and the list does not hold it again; "
                "fill the list with the same items before start(), or use None, bool, int, float, str, bytes, tuple, list, dict and set"
            )
        return _Item.of(self._list[number - self._first]).collected()

    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange]) -> RDD[Any]:  # noqa: ARG002  items do not depend on it
        """The elements of the items.

        Raises:
            CheckpointError: the log does not reach that far.
        """
        context = self.scope.context
        self._refuse_beyond_the_end(max((part.untilOffset for part in ranges), default=0))
        items = [
            self._item(place.number)
            for part in ranges
            for place in self._places
            if part.fromOffset <= place.offset < part.untilOffset
        ]
        if not items and self._default is not None:
            items = [self._default]
        rdds = [rdd for item in items for rdd in item.rdds(context)]
        if not rdds:
            return context.emptyRDD()
        return rdds[0] if len(rdds) == 1 else context.union(rdds)

    @property
    def has_backlog(self) -> bool:
        """No: what is still in the queue when the context stops stays there."""
        return False

    def committed(self, batch: Batch) -> None:
        """Go on after the batch, and forget the items that no window needs any more."""
        self._pass(batch.ranges.get(self.name, ()))
        self.let_go(batch.time)

    def let_go(self, time: Time) -> None:
        """Forget the items that no window needs any more."""
        oldest = self.oldest_needed(time)
        if self._places and self._places[0].offset + self._places[0].width <= oldest:
            self._places = [place for place in self._places if place.offset >= oldest]
            first = self._places[0].number if self._places else self._end.number
            self._kept = {number: item for number, item in self._kept.items() if number >= first}
            if self._is_logged:
                self.log.release(first)
