"""Power cuts at every operation on the volume, with every order that it may leave: what was acknowledged is there, and never a mixture."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from engine.checkpoint.journal import read_segment
from tests.engine.checkpoint.volume import room_in_memory
from tests.recovery.lives import LIVES, SEED, Life, Scene, cut_everywhere, lived, started_again
from tests.recovery.power import Op, lay_out, left, pending, without

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SUPERFLUOUS: Mapping[str, str] = MappingProxyType(
    {
        "Checkpoint.open > make_folder: .": "the start syncs the folder once more, behind a process that died",
        "Checkpoint.open > make_folder: app": "the start syncs the folder once more, behind a process that died",
        **dict.fromkeys(
            (
                "Shard.snapshot > make_folder > make_folder > make_folder: app",
                "Shard.snapshot > make_folder > make_folder: app/state",
                "Shard.snapshot > make_folder: app/state/totals*",
            ),
            "a snapshot syncs the folder once more, behind an executor that died",
        ),
        "Checkpoint.purge > Checkpoint._remove_segments: app/journal": "a segment that comes back is older than what is read, and goes again",
        "Checkpoint.purge > Checkpoint._remove_snapshots: app/state/totals*/*": "a snapshot that comes back is named by nothing, and goes again",
        "BlockLog.__init__ > LogWriter.__init__ > LogWriter._recover: app/blocks/clicks/*": (
            "a writer with an epoch begins a segment next, and syncs the folder for that"
        ),
    }
)
"""Fsyncs without which nothing is lost, as the recorder names them, and why; all others are needed."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where folders are laid out, thousands of them."""
    with room_in_memory(tmp_path_factory.mktemp("volumes")) as folder:
        yield folder


@pytest.fixture(scope="module")
def whole(room: Path) -> Mapping[str, Scene]:
    """By name what was recorded of each life."""
    return {name: lived(life, room) for name, life in LIVES.items()}


@pytest.fixture(scope="module")
def begun_again(room: Path, whole: Mapping[str, Scene]) -> Mapping[str, list[Scene]]:
    """By name of a life what was recorded of it up to a kill, and of the start after that, for many kills."""
    return {name: list(started_again(life, whole[name], room)) for name, life in LIVES.items()}


def assert_all_recovered(
    what: str, life: Life, scenes: list[Scene], room: Path, at_most: int, figures: Callable[[str], None]
) -> int:
    """Every order was recovered from; returns how many there were."""
    checked = [found for scene in scenes for found in cut_everywhere(life, scene, room, at_most)]
    orders, wrong = sum(cut.orders for cut in checked), [line for cut in checked for line in cut.wrong]
    figures(f"power cuts: {what}: {orders} orders tried, {len(wrong)} wrong (seed {SEED})")
    assert wrong == []
    return orders


@pytest.mark.fault(49, "each recorded write dropped, torn, zeroed and disordered, after every operation")
@pytest.mark.fault(7, "renames and new names without an fsync of their folder dropped, each for itself")
def test_checkpoint_survives_a_power_cut_anywhere(
    whole: Mapping[str, Scene], room: Path, figures: Callable[[str], None]
) -> None:
    """After a cut anywhere, in any order that the volume may leave, the state is that of the last commit or of the one in flight."""
    name = "checkpoint folder"
    ops = whole[name].ops
    removed = {op.path.rpartition(".")[2] for op in ops if op.kind == "unlink"}
    assert removed == {"log", "snap"}
    assert any(len(pending(ops[:cut])) > 1 for cut in range(len(ops)))
    assert assert_all_recovered(name, LIVES[name], [whole[name]], room, 60, figures) >= 1_200


@pytest.mark.fault(49, "as for the checkpoint: every write of the embedded log")
def test_log_survives_a_power_cut_anywhere(
    whole: Mapping[str, Scene], room: Path, figures: Callable[[str], None]
) -> None:
    """After a cut anywhere every acknowledged append is read, by a reader and by the next writer, and the one in flight whole or not."""
    name = "embedded log"
    assert sum(op.kind == "unlink" for op in whole[name].ops) > 4
    assert assert_all_recovered(name, LIVES[name], [whole[name]], room, 40, figures) >= 600


@pytest.mark.fault(
    49,
    "as for the checkpoint: received blocks beside their journal, through two takeovers, each with a late block",
)
def test_received_blocks_survive_a_power_cut_anywhere(
    whole: Mapping[str, Scene], room: Path, figures: Callable[[str], None]
) -> None:
    """After a cut anywhere every block that was called durable, and every one that a batch names, is read by the next start."""
    name = "received blocks"
    gone = [op.path for op in whole[name].ops if op.kind == "unlink" and op.path.startswith("app/blocks/")]
    assert len([path for path in gone if path.endswith(".log")]) > 4
    assert assert_all_recovered(name, LIVES[name], [whole[name]], room, 20, figures) >= 700


@pytest.mark.fault(
    49, "SIGKILL, a new start, then the cut: what the killed process did not make durable is still in memory"
)
@pytest.mark.parametrize("name", LIVES)
def test_power_cut_after_a_kill_and_a_new_start_loses_nothing(
    name: str,
    whole: Mapping[str, Scene],
    begun_again: Mapping[str, list[Scene]],
    room: Path,
    figures: Callable[[str], None],
) -> None:
    """A start after a kill makes durable what it builds on: a cut on its way through a batch or an append, or after it, leaves that."""
    ops = whole[name].ops
    assert max(len(pending(ops[:killed])) for killed in range(len(ops))) > 1
    what = f"{name}, after a kill and a new start"
    assert assert_all_recovered(what, LIVES[name], begun_again[name], room, 8, figures) >= 70


def test_every_fsync_but_the_superfluous_is_missed(
    whole: Mapping[str, Scene],
    begun_again: Mapping[str, list[Scene]],
    room: Path,
    figures: Callable[[str], None],
) -> None:
    """The same cuts of a process that leaves out one fsync, at one place and of one kind of file, lose something, those aside that are listed."""
    scenes = [(LIVES[name], scene) for name, scene in whole.items()]
    scenes += [(LIVES[name], scene) for name, begun in begun_again.items() for scene in begun]
    sites = dict.fromkeys(op.site for _, scene in scenes for op in scene.ops if op.site)
    unmissed = {site for site in sites if not any(is_missed(site, *scene, room) for scene in scenes)}
    figures(f"power cuts: {len(sites)} fsyncs left out one by one: {len(sites) - len(unmissed)} found")

    assert unmissed == set(SUPERFLUOUS)


def is_missed(site: str, life: Life, scene: Scene, room: Path) -> bool:
    """Whether a cut loses something where the fsyncs of a site are left out; it is looked for up to the first."""
    first = next((position for position, op in enumerate(scene.ops) if op.site == site), len(scene.ops))
    cuts = [cut for cut in scene.cuts if cut > first]
    mutant = scene._replace(ops=without(scene.ops, site), cuts=cuts)
    at_most = 4 if site in SUPERFLUOUS else 40
    return any(checked.wrong for checked in cut_everywhere(life, mutant, room, at_most))


def test_recorder_tells_what_is_not_durable(tmp_path: Path) -> None:
    """A write is pending until its file is synced, and a name until its folder is; a torn and a zeroed write are what they say."""
    ops = [
        Op("create", "a", 1),
        Op("write", node=1, data=b"x" * 1_024),
        Op("fsync", node=1),
        Op("sync_folder", ""),
    ]
    assert [pending(ops[:cut]) for cut in range(5)] == [[], [0], [0, 1], [0], []]
    trees = list(left(ops[:2], SEED, 100))
    assert all(tree in trees for tree in ({}, {"a": b""}, {"a": b"x" * 1_024}))
    assert any(0 < len(tree.get("a") or b"") < 1_024 for tree in trees)
    assert any(b"\0" in (tree.get("a") or b"") for tree in trees)
    assert read_segment(lay_out({"a": b"torn"}, tmp_path / "v") / "a") == []
