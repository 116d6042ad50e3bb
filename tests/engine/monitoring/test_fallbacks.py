"""The metric of what a start passed over in the checkpoint: torn ends of the journal and snapshots that cannot be read."""

from pathlib import Path

import pytest

from tests.engine.checkpoint.volume import damage
from tests.engine.monitoring.metered import metered, value_of

pytestmark = pytest.mark.slow

LONG = "x" * 3_000
"""Makes a snapshot due."""
NAME = "engine_checkpoint_fallbacks_total"


@pytest.mark.fault(19, "a bit in the newest snapshots of an application, a torn end of its journal")
def test_fallbacks_are_counted(tmp_path: Path) -> None:
    """A start that finds everything whole counts none; one with a torn journal and damaged snapshots counts each, and has the same state."""
    with metered(tmp_path) as app:
        app.write(0, *[(0, value_of(f"page-{n}{LONG}", 0)) for n in range(9)])
        app.run()
        app.restart()
        assert (app.value(NAME, part="journal"), app.value(NAME, part="state")) == (0, 0)
        app.write(0, (0, value_of(f"page-0{LONG}", 0)))
        app.run()
        snapshots = sorted((tmp_path / "checkpoints").rglob("*.snap"))
        assert snapshots != []
        for path in snapshots:
            damage(path)
        with max((tmp_path / "checkpoints").rglob("*.log")).open("ab") as file:
            file.write(b"DSJ1 torn")
        app.restart()

        assert (app.value(NAME, part="journal"), app.value(NAME, part="state")) == (1, len(snapshots))
        assert app.value("engine_restored_keys") == 9
