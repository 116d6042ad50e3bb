"""The events of `page-views`.

Owns: PageView.
"""

import msgspec


class PageView(msgspec.Struct, frozen=True, gc=False):
    """The fields of a page view that the jobs need; the others are skipped while decoding."""

    page: str
    event_time: int
    """Milliseconds since the epoch."""
