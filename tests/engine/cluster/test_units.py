"""Which units there are, and that they stay."""

from pathlib import Path

import pytest

from engine.cluster.units import Job, Unit, fixed_units, read_units, units_of
from engine.errors import ConfigurationError, StateVersionError

JOBS = [Job("ranks", "views", is_sharded=False), Job("totals", "views", is_sharded=True)]


def test_sharded_job_has_a_unit_for_each_partition() -> None:
    """A job whose keys stay in their partition is shared out, any other is one unit."""
    assert units_of(JOBS, {"views": 3}) == (
        Unit(0, "ranks", "ranks", "views", (0, 1, 2)),
        Unit(1, "totals-0", "totals", "views", (0,)),
        Unit(2, "totals-1", "totals", "views", (1,)),
        Unit(3, "totals-2", "totals", "views", (2,)),
    )


def test_first_start_fixes_the_units(tmp_path: Path) -> None:
    """What the first start asked for is what a later one finds."""
    wanted = units_of(JOBS, {"views": 2})

    assert fixed_units(tmp_path / "x" / "units.json", wanted) == wanted
    assert fixed_units(tmp_path / "x" / "units.json", wanted) == wanted
    assert read_units(tmp_path / "x" / "units.json") == wanted


def test_other_units_are_refused(tmp_path: Path) -> None:
    """Settings that ask for other units than the first start are refused, with both."""
    fixed_units(tmp_path / "units.json", units_of(JOBS, {"views": 2}))

    with pytest.raises(ConfigurationError, match=r"totals-1 .*ask for .*totals-2 .*new DATA_DIR"):
        fixed_units(tmp_path / "units.json", units_of(JOBS, {"views": 3}))


def test_work_begun_without_units_is_refused(tmp_path: Path) -> None:
    """A folder of one engine with all jobs is not shared out, and nothing is written."""
    (tmp_path / "pipeline").mkdir()

    with pytest.raises(ConfigurationError, match="set ENGINES=1"):
        fixed_units(tmp_path / "units.json", units_of(JOBS, {"views": 2}), refuse=[tmp_path / "pipeline"])
    assert not (tmp_path / "units.json").exists()


@pytest.mark.parametrize("text", ["", "{", '{"format":9,"units":[]}'])
def test_list_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    """A list of units that is damaged or of a newer version is named."""
    (tmp_path / "units.json").write_text(text)

    with pytest.raises(StateVersionError, match=r"units\.json"):
        read_units(tmp_path / "units.json")
