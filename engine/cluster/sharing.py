"""How units are shared out: evenly, and with as few of them moved as that allows.

Owns: share.
Never: who is a member; what a unit is.
"""

import heapq
from collections.abc import Collection, Mapping, Sequence


def share(
    units: Collection[int],
    claims: Mapping[str, Sequence[int]],
    since: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Give every unit to one member; no member has two more than another, and no other sharing as even leaves more units where they are.

    1. A member keeps what it has held longest, and gives up the newest first: what it took over from one that left goes back to it.
    2. Where the units do not come out even, those keep one more who claim as many, and of these who has held that one longest.
    3. A unit that two claim is the first one's: name the member first whose claims are to be believed. Claims of no unit are ignored.
    4. Units without a holder go, in their order, to whoever has the fewest.

    Args:
        units: their numbers.
        claims: by member the units that it says it holds, the longest held first.
        since: by member and unit the number of the sharing in which it came; the greater the later.

    Returns:
        By member its units, the longest held first: what it claims after this.

    Example:
        >>> share(range(5), {"a": [4, 0, 1, 2, 3], "b": []})
        {'a': (4, 0, 1), 'b': (2, 3)}
        >>> share(range(5), {"a": (4, 0, 1)})
        {'a': (4, 0, 1, 2, 3)}
        >>> share(range(4), {"a": [0, 1], "c": [2, 3], "b": []}, {"c": {3: 2}})  # c has taken over b's
        {'a': (0, 1), 'c': (2,), 'b': (3,)}
        >>> share([0], {"owner": [0], "back from the dead": [0]})
        {'owner': (0,), 'back from the dead': ()}
    """
    if not claims:
        return {}
    free = dict.fromkeys(sorted(units))
    floor, more = divmod(len(free), len(claims))
    believed: dict[str, list[int]] = {}
    for member, claimed in claims.items():
        believed[member] = [unit for unit in dict.fromkeys(claimed) if unit in free]
        for unit in believed[member]:
            del free[unit]

    def age_of_one_more(member: str) -> tuple[bool, int]:
        one_more = believed[member][floor : floor + 1]
        return not one_more, max((since or {}).get(member, {}).get(unit, 0) for unit in one_more or [-1])

    # Sorting is stable: of those that are the same in this the first keeps one more.
    oldest_first = sorted(claims, key=age_of_one_more)
    quotas = {member: floor + (place < more) for place, member in enumerate(oldest_first)}
    shares = {member: believed[member][: quotas[member]] for member in claims}
    given_up = [unit for member in claims for unit in believed[member][quotas[member] :]]
    rooms = [
        (len(shares[member]), place, member)
        for place, member in enumerate(claims)
        if len(shares[member]) < quotas[member]
    ]
    heapq.heapify(rooms)
    for unit in sorted([*free, *given_up]):
        load, place, member = heapq.heappop(rooms)
        shares[member].append(unit)
        if load + 1 < quotas[member]:
            heapq.heappush(rooms, (load + 1, place, member))
    return {member: tuple(held) for member, held in shares.items()}
