"""Who has run a unit since when, how often it went elsewhere and how long that took."""

from pathlib import Path

from engine.clock import ManualClock
from services.pipeline.owners import Owner, Owners
from services.pipeline.told import ReplicaStatus, UnitStatus


def told(name: str, time: int, *units: str, state: str = "running") -> ReplicaStatus:
    """What a replica tells."""
    return ReplicaStatus(name, 1, time, "member", [UnitStatus(unit, state, 0, 0, "", None) for unit in units])


def test_first_owner_is_no_change(tmp_path: Path) -> None:
    """A unit that runs for the first time has changed its owner never."""
    owners = Owners(tmp_path, "engine-1", ManualClock(5_000))

    owners.note(["totals"])

    assert owners.read() == {"totals": Owner("engine-1", 5_000, 0, None)}


def test_takeover_lasts_from_the_last_word_of_the_former_owner(tmp_path: Path) -> None:
    """The time is counted from when another replica told last that the unit runs there, not from later words without it."""
    Owners(tmp_path, "engine-1", ManualClock(1_000)).note(["totals"])
    owners = Owners(tmp_path, "engine-2", ManualClock(9_000))
    for status in (
        told("engine-1", 5_000, "totals"),
        told("engine-1", 6_000),
        told("engine-3", 7_000, "other"),
    ):
        owners.look([status])

    owners.note(["totals"])

    assert owners.read()["totals"] == Owner("engine-2", 9_000, changes=1, takeover_ms=4_000)


def test_same_owner_again_is_no_change(tmp_path: Path) -> None:
    """A unit whose replica was started again has the owner that it had."""
    Owners(tmp_path, "engine-1", ManualClock(1_000)).note(["totals"])

    Owners(tmp_path, "engine-1", ManualClock(9_000)).note(["totals"])

    assert Owners(tmp_path, "engine-2", ManualClock()).read()["totals"] == Owner("engine-1", 1_000, 0, None)


def test_unit_that_went_and_came_back_changed_twice(tmp_path: Path) -> None:
    """A replica that lost a unit and gets it again notes it anew."""
    one, two = (Owners(tmp_path, name, ManualClock(1_000)) for name in ("engine-1", "engine-2"))
    one.note(["totals"])
    two.note(["totals"])
    one.note([])

    one.note(["totals"])

    assert one.read()["totals"].changes == 2


def test_damaged_file_counts_as_none(tmp_path: Path) -> None:
    """A file that is no owner's is logged, and written anew by the next owner."""
    owners = Owners(tmp_path, "engine-1", ManualClock(5_000))
    (tmp_path / "owners" / "totals.json").write_text("{")
    assert owners.read() == {}

    owners.note(["totals"])

    assert owners.read()["totals"].replica == "engine-1"
