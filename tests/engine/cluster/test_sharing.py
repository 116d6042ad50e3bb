"""How units are shared out: evenly, for good reasons, and with few moves; over random groups."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from engine.cluster.sharing import share

UNITS = st.integers(0, 40)
MEMBERS = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True)
CLAIMS = st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.integers(-2, 45)), min_size=1)
"""As they come over the wire: repeated, of two members at once, of units that are gone."""


def believed(units: int, claims: dict[str, list[int]]) -> dict[str, list[int]]:
    """By member what it claims that is there, and no member before it claims."""
    owners: dict[int, str] = {}
    for member, claimed in claims.items():
        for unit in claimed:
            if 0 <= unit < units:
                owners.setdefault(unit, member)
    return {
        member: [unit for unit in dict.fromkeys(claimed) if owners.get(unit) == member]
        for member, claimed in claims.items()
    }


def moved(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]) -> set[int]:
    """The units that had a holder and have another."""
    holders = {unit: member for member, units in before.items() for unit in units}
    return {unit for member, units in after.items() for unit in units if holders.get(unit, member) != member}


@given(UNITS, CLAIMS)
def test_every_unit_has_one_holder(units: int, claims: dict[str, list[int]]) -> None:
    """Whatever members claim, each unit is given out once, and no member has two more than another."""
    shared = share(range(units), claims)

    assert sorted(unit for held in shared.values() for unit in held) == list(range(units))
    counts = [len(held) for held in shared.values()]
    assert max(counts) - min(counts) <= 1
    assert list(shared) == list(claims)


@given(UNITS, CLAIMS)
def test_no_even_sharing_keeps_more(units: int, claims: dict[str, list[int]]) -> None:
    """As many units stay where they are as in any sharing that is as even, and they are those held longest."""
    shared, old = share(range(units), claims), believed(units, claims)
    floor, more = divmod(units, len(claims))
    most_first = sorted((len(held) for held in old.values()), reverse=True)
    possible = sum(min(count, floor + (place < more)) for place, count in enumerate(most_first))

    kept = {member: [unit for unit in held if unit in old[member]] for member, held in shared.items()}
    assert sum(map(len, kept.values())) == possible
    for member, units_kept in kept.items():
        assert units_kept == old[member][: len(units_kept)]
        assert list(shared[member][: len(units_kept)]) == units_kept


@given(UNITS, MEMBERS)
def test_what_is_shared_out_stays(units: int, members: list[str]) -> None:
    """A second sharing among the same members changes nothing, not even the order."""
    shared = share(range(units), dict.fromkeys(members, ()))

    assert share(range(units), shared) == shared


@given(UNITS, MEMBERS, st.data())
def test_restart_moves_only_its_own_units(units: int, members: list[str], data: st.DataObject) -> None:
    """When one member leaves and comes back, no unit moves but those it had, in whatever order the members are named each time."""

    def named(held: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        return {member: held[member] for member in data.draw(st.permutations(sorted(held)))}

    before = share(range(units), dict.fromkeys(members, ()))
    gone = data.draw(st.sampled_from(members))
    without = {member: held for member, held in before.items() if member != gone}

    during = share(
        range(units), named(without), {member: dict.fromkeys(without[member], 1) for member in without}
    )
    since = {
        member: {unit: 1 if unit in without[member] else 2 for unit in held}
        for member, held in during.items()
    }
    after = share(range(units), {**named(during), gone: ()}, since)

    assert moved(without, during) == set()
    if during:
        assert moved(during, after) <= set(before[gone])
    assert {unit for member in without for unit in before[member]} <= {
        unit for member in without for unit in after[member]
    }


@given(st.permutations(range(6)))
def test_claims_of_two_go_to_the_first(claimed: Sequence[int]) -> None:
    """Of two members that claim the same units the one named first is believed."""
    shared = share(range(6), {"owner": claimed[:3], "zombie": claimed[:3]})

    assert shared["owner"] == tuple(claimed[:3])
