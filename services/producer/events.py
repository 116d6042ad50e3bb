"""The content of every event, a pure function of (seed, partition, seq), and the counts that follow from it.

Ad events have the Yahoo streaming benchmark's shape: event seq of partition p has type TYPES[seq % 3] and the ad at place
(seq + 250 * p) % 1000 of a cycle that the seed shuffles. As 3 and 1000 share no factor, 3000 events in a row hold each ad once as a
view. Page views go through a table of 1000 ranks, each as often as its popularity says; with each round the pages move down by one
rank and the last comes out on top. Both can therefore be counted without looking at the events.

Each partition has pages of its own, and a page view's key is its page: the views of a page lie in one partition, so a job that is keyed by
page can be shared out by partition. The ads of a campaign come in every partition.

Owns: ad_event, page_event, campaign_views, page_views.
Never: a clock, I/O, a random number.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import xxhash

AD_TOPIC = "ad-events"
PAGE_TOPIC = "page-views"

TYPES = ("view", "click", "purchase")
AD_TYPES = ("banner", "modal", "sponsored", "mail", "mobile")
ADS = 1000
ADS_PER_CAMPAIGN = 10
PAGES = 200
"""Number of different pages in each partition."""
USERS = 500
_RANKS = 1000
"""Length of the table of ranks."""
_SHIFT = 250
"""How far each partition is ahead of the one before in the cycles."""
_VISITORS = 1000
"""Number of different user ids in ad events."""
_SITES = 100
"""Number of different page ids in ad events."""


def ad_event(seed: int, partition: int, seq: int, event_time: int) -> tuple[bytes, bytes]:
    """The key and the JSON value of an ad event.

    Args:
        seed: of the producer.
        partition: from 0.
        seq: number of the event in its partition, from 0.
        event_time: intended send time, milliseconds since the epoch.

    Example:
        >>> ad_event(1, 0, 7, 1_700_000_000_000)[1][:38]
        b'{"seq":7,"event_time":1700000000000,"u'
    """
    visitors, sites = _identities(seed)
    luck = _luck(seed, AD_TOPIC, partition, seq)
    user = visitors[luck % _VISITORS]
    value = (
        f'{{"seq":{seq},"event_time":{event_time},"user_id":"{user}","page_id":"{sites[(luck >> 16) % _SITES]}",'
        f'"ad_id":"ad-{_ads(seed)[(seq + _SHIFT * partition) % ADS]:04d}","ad_type":"{AD_TYPES[(luck >> 24) % 5]}",'
        f'"event_type":"{TYPES[seq % 3]}",'
        f'"ip_address":"10.{luck >> 40 & 255}.{luck >> 48 & 255}.{luck >> 56}"}}'
    )
    return user.encode(), value.encode()


def page_event(seed: int, partition: int, seq: int, event_time: int) -> tuple[bytes, bytes]:
    """The key, which is the page, and the JSON value of a page view; the arguments are those of ad_event.

    Example:
        >>> page_event(1, 0, 7, 1_700_000_000_000)
        (b'/page/070', b'{"seq":7,"event_time":1700000000000,"user":"user-0084","page":"/page/070"}')
    """
    rounds, place = divmod(seq + _SHIFT * partition, _RANKS)
    page = _page(partition, _pages(seed)[(_ranks(seed)[place] - rounds) % PAGES])
    user = f"user-{_luck(seed, PAGE_TOPIC, partition, seq) % USERS:04d}"
    value = f'{{"seq":{seq},"event_time":{event_time},"user":"{user}","page":"{page}"}}'
    return page.encode(), value.encode()


def campaign_views(seed: int, partition: int, n: int) -> Counter[str]:
    """How many of the ad events [0, n) of a partition are views, by the campaign of their ad; campaigns without any are left out.

    Counts of [m, n) are the difference of two calls. At most 1000 steps, however large n is.

    Example:
        >>> campaign_views(1, 0, 3_000)["campaign-42"]
        10
    """
    cycles, rest = divmod((n + 2) // 3, ADS)
    ads = _ads(seed)
    views = Counter(
        dict.fromkeys(range(ADS // ADS_PER_CAMPAIGN), ADS_PER_CAMPAIGN * cycles) if cycles else {}
    )
    views.update(ads[(3 * view + _SHIFT * partition) % ADS] // ADS_PER_CAMPAIGN for view in range(rest))
    return Counter({f"campaign-{campaign:02d}": count for campaign, count in views.items()})


def page_views(seed: int, partition: int, n: int) -> Counter[str]:
    """How many of the page events [0, n) of a partition are views of each page; pages without any are left out.

    Counts of [m, n) are the difference of two calls. About 2000 steps, however large n is.

    Example:
        >>> page_views(1, 0, 200_000)["/page/000"]
        1000
    """
    begin = _SHIFT * partition
    until, before = _views_by_place(seed, begin + n), _views_by_place(seed, begin)
    pages = _pages(seed)
    return Counter(
        {_page(partition, pages[i]): until[i] - before[i] for i in range(PAGES) if until[i] > before[i]}
    )


def _page(partition: int, page: int) -> str:
    """The name of one of a partition's pages; no other partition has it."""
    return f"/page/{page + PAGES * partition:03d}"


def _views_by_place(seed: int, steps: int) -> list[int]:
    """How often each place of the shuffled pages comes up in the first steps through the table of ranks."""
    rounds, rest = divmod(steps, _RANKS)
    full, more = divmod(rounds, PAGES)
    # Round r shows place i at rank i + r. PAGES rounds show each place at each rank once; the rounds that remain show
    # it at the ranks [i, i + more), around the end.
    sums = _rank_sums(seed)
    views = [full * _RANKS + sums[i + more] - sums[i] for i in range(PAGES)]
    for rank in _ranks(seed)[:rest]:
        views[(rank - rounds) % PAGES] += 1
    return views


def _luck(seed: int, topic: str, partition: int, seq: int) -> int:
    """64 bits that look random and depend on nothing but the arguments."""
    return xxhash.xxh3_64_intdigest(seq.to_bytes(8, "little"), _stream_seed(seed, topic, partition))


@lru_cache(maxsize=256)
def _stream_seed(seed: int, topic: str, partition: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}/{topic}/{partition}".encode())


def _shuffled(seed: int, name: str, items: Sequence[int]) -> tuple[int, ...]:
    """The items in an order that depends on the seed and the name only, whatever the version of Python."""
    order = sorted(
        range(len(items)), key=lambda i: (xxhash.xxh3_64_intdigest(f"{seed}/{name}/{i}".encode()), i)
    )
    return tuple(items[i] for i in order)


@lru_cache(maxsize=4)
def _ads(seed: int) -> tuple[int, ...]:
    return _shuffled(seed, "ads", range(ADS))


@lru_cache(maxsize=4)
def _pages(seed: int) -> tuple[int, ...]:
    return _shuffled(seed, "pages", range(PAGES))


@lru_cache(maxsize=4)
def _ranks(seed: int) -> tuple[int, ...]:
    """Every rank once, and the remaining places shared out as 1 / (rank + 1)."""
    shares = [1 / (rank + 1) for rank in range(PAGES)]
    ends = [round((_RANKS - PAGES) * share / sum(shares)) for share in accumulate(shares)]
    extra = [end - begin for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    return _shuffled(seed, "ranks", [rank for rank in range(PAGES) for _ in range(1 + extra[rank])])


@lru_cache(maxsize=4)
def _rank_sums(seed: int) -> tuple[int, ...]:
    """How many places of the table have a rank below i, for i in [0, 2 * PAGES], the ranks going round."""
    counts = Counter(_ranks(seed))
    return tuple(accumulate((counts[i % PAGES] for i in range(2 * PAGES)), initial=0))


@lru_cache(maxsize=4)
def _identities(seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The user ids and page ids of ad events."""
    return (
        tuple(_identity(f"{seed}/visitor/{i}") for i in range(_VISITORS)),
        tuple(_identity(f"{seed}/site/{i}") for i in range(_SITES)),
    )


def _identity(text: str) -> str:
    """A string in the form of a UUID."""
    digits = xxhash.xxh3_128_hexdigest(text.encode())
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
