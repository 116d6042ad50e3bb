"""The timers of a shard find what expired, and nothing else."""

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from engine.dstream.timers import Timers

keys = st.sampled_from(["a", "b", "c", 1, None, ("t", 1)])
steps = st.lists(
    st.tuples(st.integers(1, 5), st.lists(st.tuples(keys, st.sampled_from(["touch", "remove"])))), max_size=30
)


@given(steps, st.integers(1, 12), st.sampled_from([0, 2, 1_000]))
def test_timers_find_what_a_scan_finds(
    steps: list[tuple[int, list[tuple[Hashable, str]]]], timeout: int, spare: int
) -> None:
    """At every time the expired keys are those that a scan over all keys finds, oldest first, each once, whatever is let go."""
    timers, touched, now = Timers([], spare), dict[Hashable, int](), 0
    for gap, changes in steps:
        now += gap
        for key, change in changes:
            if change == "remove":
                touched.pop(key, None)
            else:
                if key not in touched:
                    timers.add(key, now)
                touched[key] = now
        expired = timers.expired(now - timeout, touched.get)
        assert sorted(map(repr, expired)) == sorted(
            repr(key) for key, time in touched.items() if time < now - timeout
        )
        assert [touched[key] for key in expired] == sorted(touched[key] for key in expired)
        for key in expired:
            del touched[key]
        timers.let_go(len(touched), touched.get)
        assert len(touched) <= len(timers) <= 2 * len(touched) + spare


@given(st.dictionaries(keys, st.integers(1, 9)), st.integers(1, 12), st.randoms())
def test_order_does_not_hang_on_how_keys_came(
    touched: dict[Hashable, int], threshold: int, random: object
) -> None:
    """Timers that were made anew from the same keys in another order give the same order."""
    pairs = list(touched.items())
    first = Timers(pairs).expired(threshold, touched.get)
    random.shuffle(pairs)  # type: ignore[attr-defined]  # hypothesis gives a Random

    assert Timers(pairs).expired(threshold, touched.get) == first


def test_touches_cost_no_look() -> None:
    """A key that is touched in every batch is looked at once a timeout, and an idle one only when it goes."""
    looks = 0
    touched = {"busy": 0, "idle": 0}

    def look(key: str) -> int:
        nonlocal looks
        looks += 1
        return touched[key]

    timers = Timers([("busy", 0), ("idle", 0)])
    for now in range(1, 110):
        touched["busy"] = now
        for key in timers.expired(now - 50, look):
            del touched[key]

    assert touched == {"busy": 109}
    assert looks == 3


def test_keys_that_are_gone_are_let_go_seldom() -> None:
    """However many keys come and go, few wait; and one is looked at a few times at most, as nothing is dropped before it is worth it."""
    looks = 0

    def look(key: int) -> int | None:
        nonlocal looks
        looks += 1
        return 0 if key < 5_000 else None

    timers = Timers((key, 0) for key in range(5_000))
    for batch in range(1, 101):
        for key in range(200):
            timers.add(batch * 10_000 + key, batch)
        timers.let_go(5_000, look)
        assert len(timers) <= 11_000

    assert looks < 2 * 25_000
