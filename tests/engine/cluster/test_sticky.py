"""What members claim when they join, and whom the one that shares out believes; and what of Kafka's clients reaches the log."""

import logging
from types import SimpleNamespace
from typing import Any

from engine.cluster.faust import Sticky, _Quiet
from tools.cluster.simulation import bare_app


def shared(members: dict[str, Sticky], units: int) -> dict[str, set[int]]:
    """Share out among these, and tell none."""
    cluster: Any = SimpleNamespace(partitions_for_topic=lambda _: set(range(units)))
    claims = {name: member.metadata(["units"]) for name, member in members.items()}
    shares = next(iter(members.values())).assign(cluster, claims)
    return {name: set(share.assignment[0][1]) for name, share in shares.items()}


def holding(name: str, units: list[int], generation: int) -> Sticky:
    """A member that was given these in this sharing."""
    member = Sticky(bare_app(name))
    member._assignment.actives = {"units": units}
    member.app.consumer_generation_id = generation
    return member


def other_share(member: Sticky, units: list[int]) -> Any:
    """What the group tells a member that it has."""
    member_of = member.metadata(["units"])
    alone: Any = SimpleNamespace(partitions_for_topic=lambda _: set(units))
    return member.assign(alone, {"one": member_of})["one"]


def test_newer_claims_are_believed() -> None:
    """Who slept through a sharing, and still claims what others hold since, gets what they can spare."""
    members = {"a": holding("a", [0, 1], 1), "b": holding("b", [2, 3, 0, 1], 2)}

    assert shared(members, 4) == {"a": {0, 1}, "b": {2, 3}}
    members = {"a": holding("a", [2, 3], 1), "b": holding("b", [2, 3, 0, 1], 2)}
    assert shared(members, 4) == {"a": {0, 1}, "b": {2, 3}}


def test_forgotten_units_are_not_claimed() -> None:
    """What others have taken over from a member is theirs, though it held it in the same sharing."""
    forgetful = holding("a", [0, 1, 2], 1)
    members = {"a": forgetful, "b": holding("b", [0], 1)}

    assert shared(members, 4) == {"a": {0, 1}, "b": {2, 3}}
    forgetful.forget({0})
    assert shared(members, 4) == {"a": {1, 2}, "b": {0, 3}}


def test_who_took_over_gives_back() -> None:
    """Of two members with as many units the one that gained the last of them later gives one to a third."""
    taker, other = holding("a", [0], 1), holding("b", [], 1)
    other.on_assignment(other_share(other, [2, 3]))
    other.metadata(["units"])
    for member, units in ((taker, [0, 1]), (other, [2, 3])):
        member.app.consumer_generation_id = 1
        member.on_assignment(other_share(member, units))
        member.app.consumer_generation_id = 2

    assert shared({"a": taker, "b": other, "c": holding("c", [], 0)}, 4) == {"a": {0}, "b": {2, 3}, "c": {1}}


def test_repeated_warnings_reach_the_log_once() -> None:
    """Of the same warning of a client one line is let through, and nothing below a warning, until it is over."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    client = logging.getLogger("aiokafka.conn")
    client.addHandler(handler)
    quiet = _Quiet()
    quiet.begin()
    try:
        for port in range(3):
            client.warning("no broker at %d", port)
            client.error("gone")
            client.info("trying")
    finally:
        quiet.end()
    client.warning("no broker at %d", 3)
    client.removeHandler(handler)

    assert lines == ["no broker at 0", "gone", "no broker at 3"]
