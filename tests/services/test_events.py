"""The producer's events are a pure function, and their counts are known without looking at them."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.producer.events import (
    AD_TOPIC,
    AD_TYPES,
    PAGE_TOPIC,
    TYPES,
    ad_event,
    campaign_views,
    page_event,
    page_views,
)
from services.topics import AD_EVENTS, PAGE_VIEWS


def brute_campaign_views(seed: int, partition: int, begin: int, end: int) -> Counter[str]:
    """The count of views by campaign, event by event."""
    ads = (json.loads(ad_event(seed, partition, seq, 0)[1]) for seq in range(begin, end))
    return Counter(f"campaign-{int(ad['ad_id'][3:]) // 10:02d}" for ad in ads if ad["event_type"] == "view")


def brute_page_views(seed: int, partition: int, begin: int, end: int) -> Counter[str]:
    """The count of views by page, event by event."""
    return Counter(json.loads(page_event(seed, partition, seq, 0)[1])["page"] for seq in range(begin, end))


def test_ad_event_has_the_fields_of_the_contract() -> None:
    """An ad event is compact JSON of eight fields with seq first, about 240 bytes, under the user's id as its key."""
    key, value = ad_event(1, 3, 12_344, 1_700_000_000_123)
    event = json.loads(value)
    assert list(event) == [
        "seq",
        "event_time",
        "user_id",
        "page_id",
        "ad_id",
        "ad_type",
        "event_type",
        "ip_address",
    ]
    assert (event["seq"], event["event_time"], event["event_type"]) == (
        12_344,
        1_700_000_000_123,
        TYPES[12_344 % 3],
    )
    assert key.decode() == event["user_id"]
    assert len(event["user_id"]) == len(event["page_id"]) == 36
    assert event["ad_type"] in AD_TYPES
    assert 0 <= int(event["ad_id"].removeprefix("ad-")) < 1_000
    assert all(0 <= int(part) < 256 for part in event["ip_address"].split("."))
    assert json.dumps(event, separators=(",", ":")).encode() == value
    assert 205 <= len(value) <= 245


def test_page_event_has_the_fields_of_the_contract() -> None:
    """A page view is compact JSON of four fields with seq first, under the page as its key."""
    key, value = page_event(1, 1, 99, 1_700_000_000_123)
    event = json.loads(value)
    assert list(event) == ["seq", "event_time", "user", "page"]
    assert (event["seq"], event["event_time"]) == (99, 1_700_000_000_123)
    assert key.decode() == event["page"]
    assert 0 <= int(event["user"].removeprefix("user-")) < 500
    assert 200 <= int(event["page"].removeprefix("/page/")) < 400
    assert json.dumps(event, separators=(",", ":")).encode() == value


def test_content_never_changes() -> None:
    """The bytes of an event are part of the format: a run can be verified by another version."""
    user = "603987bc-7b89-984d-68c7-017b7f79bdcb"
    assert ad_event(1, 2, 3, 4) == (
        user.encode(),
        f'{{"seq":3,"event_time":4,"user_id":"{user}","page_id":"addea202-187c-2fd3-84a2-76243704d29a",'
        '"ad_id":"ad-0051","ad_type":"banner","event_type":"view","ip_address":"10.241.13.11"}'.encode(),
    )
    assert page_event(1, 1, 3, 4) == (
        b"/page/211",
        b'{"seq":3,"event_time":4,"user":"user-0019","page":"/page/211"}',
    )


@pytest.mark.parametrize("change", [{"seed": 2}, {"partition": 1}, {"seq": 11}])
def test_content_depends_on_seed_partition_and_seq(change: dict[str, int]) -> None:
    """Another seed, partition or number gives another event of either topic."""
    base = {"seed": 1, "partition": 0, "seq": 10, "event_time": 0}
    assert ad_event(**base) != ad_event(**base | change)
    assert page_event(**base) != page_event(**base | change)


def test_each_ad_is_viewed_equally_often() -> None:
    """In 3000 events of a partition, wherever they begin, each of the 1000 ads is one view."""
    views = Counter(
        event["ad_id"]
        for seq in range(1_234, 4_234)
        if (event := json.loads(ad_event(5, 2, seq, 0)[1]))["event_type"] == "view"
    )
    assert set(views.values()) == {1}
    assert len(views) == 1_000


def test_popularity_is_skewed_and_drifts() -> None:
    """A few pages get most views, and after a minute the top page is another one."""
    early, late = brute_page_views(1, 0, 0, 2_000), brute_page_views(1, 0, 15_000, 17_000)
    assert sum(count for _, count in early.most_common(20)) > 0.5 * 2_000
    assert early.most_common(1)[0][0] != late.most_common(1)[0][0]
    assert {page for page, _ in late.most_common(10)} - {page for page, _ in early.most_common(10)}


@pytest.mark.parametrize("seed", [1, 5])
def test_no_page_is_in_two_partitions(seed: int) -> None:
    """All 200 pages of a partition are its own, by their names, in the events and in the closed form."""
    pages = [set(page_views(seed, partition, 2_000)) for partition in range(8)]
    assert [len(names) for names in pages] == [200] * 8
    assert len(set().union(*pages)) == 8 * 200
    for partition, names in enumerate(pages):
        keys = {page_event(seed, partition, seq, 0)[0].decode() for seq in range(2_000)}
        assert keys == names == {f"/page/{n:03d}" for n in range(200 * partition, 200 * partition + 200)}


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 5), partition=st.integers(0, 7), n=st.integers(0, 7_000), more=st.integers(0, 3_000)
)
def test_campaign_views_equal_a_count_of_the_events(seed: int, partition: int, n: int, more: int) -> None:
    """The closed form of views by campaign equals counting, from 0 and as a difference."""
    assert campaign_views(seed, partition, n) == brute_campaign_views(seed, partition, 0, n)
    between = campaign_views(seed, partition, n + more) - campaign_views(seed, partition, n)
    assert between == brute_campaign_views(seed, partition, n, n + more)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 5), partition=st.integers(0, 7), n=st.integers(0, 7_000), more=st.integers(0, 3_000)
)
def test_page_views_equal_a_count_of_the_events(seed: int, partition: int, n: int, more: int) -> None:
    """The closed form of views by page equals counting, from 0 and as a difference."""
    assert page_views(seed, partition, n) == brute_page_views(seed, partition, 0, n)
    between = page_views(seed, partition, n + more) - page_views(seed, partition, n)
    assert between == brute_page_views(seed, partition, n, n + more)


@pytest.mark.slow
def test_page_views_equal_a_count_over_a_whole_drift() -> None:
    """The closed form holds where every page has had every rank, and a bit further."""
    assert page_views(1, 1, 203_456) == brute_page_views(1, 1, 0, 203_456)


def test_counts_of_long_streams_add_up() -> None:
    """After a billion events the counts are those of a billion events, without looking at one."""
    assert campaign_views(1, 3, 1_000_000_002).total() == 333_333_334
    assert page_views(1, 3, 1_000_000_007).total() == 1_000_000_007


def test_topics_have_one_name() -> None:
    """The producer writes the topics that the init step makes."""
    assert (AD_TOPIC, PAGE_TOPIC) == (AD_EVENTS, PAGE_VIEWS)
