"""A shard that moves between workers, runs twice and is lost, without a cluster: only what the driver committed counts."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import LocalContext
from engine.batch import Batch, Time
from engine.checkpoint.codec import StateCodec
from engine.checkpoint.files import checksum
from engine.checkpoint.shards import DeltaPlace, RestorePlan, Shard
from engine.dstream.run import announce, announce_owner
from engine.errors import CheckpointError
from engine.spark.access import ShardTask

CODEC = StateCodec("op")


class Volume:
    """One shard's deltas and snapshots in one file, as the journal keeps them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.write_bytes(b"")
        self.version = 0
        self._deltas: list[DeltaPlace] = []
        self._snapshots: list[tuple[str, int]] = []

    def commit(self, version: int, delta: bytes) -> None:
        """What the driver does with a delta; one without a change has no place."""
        if delta:
            place = self._path.stat().st_size
            with self._path.open("ab") as file:
                file.write(delta)
            self._deltas.append(DeltaPlace(str(self._path), place, len(delta), checksum(delta), version))
        self.version = version

    def snapshot(self, shard: Shard) -> None:
        """A file of the whole shard; two are kept, and the deltas since the older one."""
        path = self._path.with_name(f"{self.version}.snap")
        shard.snapshot(path)
        self._snapshots = [(str(path), self.version), *self._snapshots][:2]
        oldest = self._snapshots[-1][1]
        self._deltas = [place for place in self._deltas if len(self._snapshots) < 2 or place.version > oldest]

    def plan(self) -> RestorePlan:
        """How the shard is rebuilt."""
        is_whole = len(self._snapshots) < 2
        plan = RestorePlan(self.version, tuple(self._snapshots), tuple(self._deltas), is_whole)
        return RestorePlan.unpacked(plan.packed())


def advance(shard: Shard, plan: RestorePlan, run: int, changes: list[tuple[int, Any]]) -> bytes:
    """What a task does: the shard comes to the base, the run changes it; its delta."""
    shard.restore(plan)
    shard.open(plan.version, run)
    for key, value in changes:
        shard.remove(key) if value is None else shard.put(key, value)
    delta = shard.delta()
    shard.overlay_checksum = checksum(delta)
    return delta


def applied(model: dict[int, Any], changes: list[tuple[int, Any]]) -> dict[int, Any]:
    """The model after the changes."""
    model = dict(model)
    for key, value in changes:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value
    return model


changes = st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 3)), max_size=5)
batches = st.lists(
    st.tuples(
        st.integers(0, 2),  # the worker whose attempt counts
        st.none() | st.integers(0, 2),  # a worker that ran it too, and lost
        st.none() | st.integers(0, 2),  # a worker that dies
        st.booleans(),  # whether the loser computed something else
        st.booleans(),  # whether a snapshot is written
        changes,
    ),
    max_size=8,
)


@given(batches=batches)
def test_a_shard_is_what_the_driver_committed_wherever_it_runs(
    tmp_path_factory: pytest.TempPathFactory, batches: list[Any]
) -> None:
    """However a shard moves, dies, runs twice and disagrees, a worker that is asked has the committed state and the run's own."""
    volume = Volume(tmp_path_factory.mktemp("volume") / "journal")
    workers = [Shard(CODEC) for _ in range(3)]
    model: dict[int, Any] = {}
    for run, (winner, loser, dead, disagrees, has_snapshot, batch) in enumerate(batches, 1):
        if dead is not None:
            workers[dead] = Shard(CODEC)
        plan = volume.plan()
        delta = advance(workers[winner], plan, run, batch)
        if loser is not None and loser != winner:
            advance(workers[loser], plan, run, [*batch, (9, run)] if disagrees else batch)
        model = applied(model, batch)
        for shard in (workers[(winner + run) % 3], workers[winner]):
            # A reader of the running batch, in any worker.
            if (shard.version, shard.overlay_version, shard.overlay_checksum) != (
                plan.version,
                run,
                checksum(delta),
            ):
                shard.restore(plan)
                shard.open(plan.version, run)
                shard.overlay_of(run, delta)
            assert dict(shard.items()) == model
        volume.commit(run, delta)
        if has_snapshot:
            workers[winner].restore(volume.plan())
            volume.snapshot(workers[winner])
    for shard in workers:
        shard.restore(volume.plan())
        assert (shard.version, shard.values) == (volume.version, model)


def test_a_shard_that_is_behind_reads_the_deltas_it_lacks(tmp_path: Path) -> None:
    """A worker that missed two batches reads their deltas, and no snapshot."""
    volume, here, there = Volume(tmp_path / "journal"), Shard(CODEC), Shard(CODEC)
    volume.commit(1, advance(here, volume.plan(), 1, [(1, 1)]))
    here.restore(volume.plan())
    volume.snapshot(here)
    there.restore(volume.plan())
    for run in (2, 3):
        volume.commit(run, advance(here, volume.plan(), run, [(run, run)]))
    (tmp_path / "1.snap").unlink()

    assert there.restore(volume.plan())
    assert there.values == {1: 1, 2: 2, 3: 3}


def test_an_attempt_that_lost_is_not_built_upon(tmp_path: Path) -> None:
    """A worker whose attempt gave another delta than the committed one drops it and reads the committed one."""
    volume, winner, loser = Volume(tmp_path / "journal"), Shard(CODEC), Shard(CODEC)
    plan = volume.plan()
    delta = advance(winner, plan, 1, [(1, "committed")])
    advance(loser, plan, 1, [(1, "lost")])
    volume.commit(1, delta)

    assert loser.restore(volume.plan())
    assert loser.values == {1: "committed"}
    assert not winner.restore(volume.plan())


def test_an_attempt_that_changed_something_gives_way_to_one_that_did_not(tmp_path: Path) -> None:
    """When the committed run changed nothing, an overlay with changes of the same run is dropped."""
    volume, loser = Volume(tmp_path / "journal"), Shard(CODEC)
    advance(loser, volume.plan(), 1, [(1, "lost")])
    volume.commit(1, b"")

    loser.restore(volume.plan())
    assert (loser.version, loser.values) == (1, {})


def test_an_attempt_that_runs_again_in_its_worker_gives_the_same_delta(tmp_path: Path) -> None:
    """A second attempt in one worker starts from the base again."""
    volume, shard = Volume(tmp_path / "journal"), Shard(CODEC)
    volume.commit(1, advance(shard, volume.plan(), 1, [(1, 1)]))
    first = advance(shard, volume.plan(), 2, [(1, None), (2, 2)])

    assert advance(shard, volume.plan(), 2, [(1, None), (2, 2)]) == first


def test_an_older_state_can_be_had_again(tmp_path: Path) -> None:
    """A plan of an earlier batch brings a shard back, as an RDD that is kept may be computed again later."""
    volume, shard = Volume(tmp_path / "journal"), Shard(CODEC)
    volume.commit(1, advance(shard, volume.plan(), 1, [(1, 1)]))
    earlier = volume.plan()
    volume.commit(2, advance(shard, earlier, 2, [(1, 2)]))
    shard.restore(volume.plan())

    assert shard.restore(earlier)
    assert shard.values == {1: 1}


def test_a_folder_that_a_worker_does_not_see_is_told(tmp_path: Path) -> None:
    """A worker without the journal's file names it, and says that the folder belongs on a volume that all share."""
    path = tmp_path / "000001-000000.log"
    plan = RestorePlan(1, (), (DeltaPlace(str(path), 0, 1, 0, 1),), complete=True)
    task = ShardTask(CODEC, {})
    with LocalContext("local", "test") as context:
        announce_owner(context, 1, has_folder=True)
        announce(context, Batch(Time(1_000), {}))
        with pytest.raises(CheckpointError, match=rf"{path} is not there for a worker of Spark; put"):
            context.parallelize([0], 1).map(lambda index: task._brought(index, plan).version).collect()
