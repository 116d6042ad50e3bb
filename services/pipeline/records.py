"""The types that the jobs' records share, and the events of `page-views`.

Owns: PageView, EventTimeMs, Page.
"""

from typing import Annotated

import msgspec

EventTimeMs = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
"""Milliseconds from the epoch to the end of the year 9999: what a store can hold as a time."""

Page = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
"""A page's name: a store refuses an empty key, and one of more than 64 KiB."""


class PageView(msgspec.Struct, frozen=True, gc=False):
    """The fields of a page view that the jobs need; the others are skipped while decoding."""

    page: Page
    event_time: EventTimeMs
