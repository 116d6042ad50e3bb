"""What the jobs' records share, how their views are counted, and the events of `page-views`.

Owns: PageView, EventTimeMs, Page, Seq, VIEW, counted.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

EventTimeMs = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
"""Milliseconds from the epoch to the end of the year 9999: what a store can hold as a time."""

Page = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
"""A page's name: a store refuses an empty key, and one of more than 64 KiB."""

Seq = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""The event's number in its partition; 0 where its producer gives none."""

VIEW = 1 << 128
"""One view; its event's seq is added, so reduceByKey adds ints, at a fifth of what adding pairs costs. No sum of seq reaches it."""
SEQ_SUMS = 1 << 63
"""The sums of seq are modulo this, which a bigint of a store can hold."""


def counted(sums: Iterable[int], views: int, seq_sum: int) -> tuple[int, int]:
    """Number of views and sum of their events' seq, modulo SEQ_SUMS, with what a batch adds to them.

    One event lost and another one counted twice leave the number as it is, but not the sum.

    Args:
        sums: of VIEW + seq.
        views: the number so far.
        seq_sum: the sum so far.

    Example:
        >>> counted([VIEW + 7 + VIEW + 8], 1, 6)
        (3, 21)
    """
    more, seqs = divmod(sum(sums), VIEW)
    return views + more, (seq_sum + seqs) % SEQ_SUMS


class PageView(msgspec.Struct, frozen=True, gc=False):
    """The fields of a page view that the jobs need; the others are skipped while decoding."""

    page: Page
    event_time: EventTimeMs
    seq: Seq = 0
