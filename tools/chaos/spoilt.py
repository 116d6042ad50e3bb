"""Faults of data: records that nobody can use, records that come all at once, a torn journal, a snapshot that is gone.

Owns: Poison, PauseProducer, TearJournal, LoseSnapshot.
Never: a fault that leaves bytes behind which were acknowledged and are wrong; the engine refuses those, so no drill could go on.
"""

import os
import signal
import struct
import time
from contextlib import closing
from pathlib import Path

from engine.checkpoint.journal import MAGIC, read_segment, segment_names
from engine.checkpoint.records import Open, decode
from engine.errors import StreamingError
from services.producer import kafka_sink, log_sink
from services.topics import topics
from tools.chaos.hits import Plain, await_new_life, doubt_other_pid, hold_driver, kill_service, resume
from tools.chaos.scene import FIRST_BATCH_SECONDS, FLIGHT_SECONDS, Outcome
from tools.progress import LOOK_SECONDS, Place
from tools.stack.control import looks
from tools.stack.events import Event
from tools.verify.proof import open_store
from tools.verify.schema import TABLES, Values

POISONS = (b"{poison", b"[1,2]", b'{"page":1,"ad_id":2,"event_type":3,"event_time":"now"}')
"""No JSON, no object, fields of other types: each partition gets one of each."""
LEAST_PAUSE_SECONDS = 10.0
"""What a shorter pause leaves comes within a second: on a busy machine nobody could tell it from the usual."""
LONGEST_PAUSE_SECONDS = 45.0
"""A producer that is behind by a minute begins its schedule anew, and then nothing comes all at once."""
TORN = struct.pack("<4sIIQ", MAGIC, 200, 1_000, 7) + b"torn" * 30
"""The begin of a frame of 1,220 bytes; the rest never came."""
FALLS_BACK = "is gone; falling back"
"""What the engine says when it misses a snapshot; engine.checkpoint.shards has the sentence."""

_SNAPSHOT_SECONDS = 180.0
_END_SECONDS = 30.0


class Poison(Plain):
    """Records that no job can use in every partition: each becomes a dead letter, and nothing else happens."""

    def strike(self, outcome: Outcome) -> None:
        """Append, see the batch that took them commit, and find each among the dead letters, and no others."""
        scene = self.scene
        before, engines = self._letters(), scene.engines()
        is_embedded = scene.stack.settings.stack == "embedded"
        if is_embedded:  # its log has one writer
            scene.say("ending the producer for a moment")
            order = scene.stack.kill("producer", signal.SIGTERM)
            scene.stack.wait_for("producer", "death", after=order.time, timeout_seconds=_END_SECONDS)
        scene.say("appending records that nobody can use")
        scene.begin(Event(time.time(), "engine", "poison", {}))
        places = [
            (topic.name, partition, self._append(topic.name, partition, value))
            for topic in topics(scene.stack.settings)
            for partition in range(topic.partitions)
            for value in POISONS
        ]
        if is_embedded:
            scene.stack.start("producer")
            outcome.restart = scene.since()
        self._await_taken(outcome, places)
        found = {tuple(key) for key in self._letters() - before}
        if found != set(places):
            outcome.doubts.append(
                f"{len(places)} records were spoilt, {len(found & set(places))} of them and "
                f"{len(found - set(places))} others are dead letters"
            )
        if scene.engines() != engines:
            outcome.doubts.append("an engine is another process, so it did not step over them")

    def heal(self) -> None:
        """Start the producer, if it was left down."""
        if self.scene.pid("producer") is None:
            self.scene.stack.start("producer")

    def _append(self, topic: str, partition: int, value: bytes) -> int:
        settings, now_ms = self.scene.stack.settings, int(time.time() * 1_000)
        if settings.stack == "embedded":
            return log_sink.append_record(settings.log_dir, topic, partition, value, now_ms)
        return kafka_sink.append_record(settings.kafka_bootstrap, topic, partition, value, now_ms)

    def _await_taken(self, outcome: Outcome, places: list[tuple[str, int, int]]) -> None:
        for _ in looks(FIRST_BATCH_SECONDS, LOOK_SECONDS):
            ends = self.scene.progress.newest().ends
            if all(ends.get((topic, partition), 0) > offset for topic, partition, offset in places):
                outcome.first_batch = self.scene.since()
                return
        outcome.doubts.append("no batch has taken the spoilt records")

    def _letters(self) -> set[Values]:
        """The keys of all dead letters: topic, partition, offset."""
        with closing(open_store(self.scene.stack.settings)) as store:
            return {key for key, _ in store.rows(TABLES["dead_letters"])}


class PauseProducer(Plain):
    """A producer that is held for the length of the hold, ten seconds at least; then all that was due comes at once."""

    def strike(self, outcome: Outcome) -> None:
        """Pause, see the log stand still, resume, see it grow faster than it ever does, and see that committed."""
        scene, settings = self.scene, self.scene.stack.settings
        seconds = min(max(scene.hold_seconds, LEAST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        held = scene.begin(scene.stack.pause("producer"))
        if not scene.is_held():
            outcome.doubts.append("the producer was not held")
        scene.say(f"producer stays paused for {seconds:g} s")
        self._sleep_until(min(FLIGHT_SECONDS, seconds))
        still = scene.progress.ends()
        self._sleep_until(seconds)
        if scene.progress.ends() != still:
            outcome.doubts.append("the log has grown while its producer was held")
        self.heal()
        outcome.restart = scene.since()
        doubt_other_pid(scene, outcome, held)
        rate = settings.ad_rate + settings.page_rate
        due, window = burst(outcome.restart, seconds)
        self._await_burst(outcome, still, due * rate, window)
        self._await_new(outcome, still)

    def heal(self) -> None:
        """Let the producer go on."""
        resume(self.scene)

    def _sleep_until(self, seconds: float) -> None:
        """Wait until so long after the fault."""
        time.sleep(max(0.0, seconds - self.scene.since()))

    def _await_burst(self, outcome: Outcome, still: dict[Place, int], due: float, seconds: float) -> None:
        """See all that was due come in half the time in which it usually does."""
        for _ in looks(seconds, LOOK_SECONDS):
            if sum(self.scene.progress.ends().values()) - sum(still.values()) >= due:
                return
        outcome.doubts.append(f"{due:.0f} records were due at once, and did not come so")

    def _await_new(self, outcome: Outcome, still: dict[Place, int]) -> None:
        for _ in looks(FIRST_BATCH_SECONDS, LOOK_SECONDS):
            ends = self.scene.progress.newest().ends
            if any(ends.get(place, 0) > end for place, end in still.items()):
                outcome.first_batch = self.scene.since()
                return
        outcome.doubts.append("no new record was committed")


def burst(paused: float, hold: float) -> tuple[float, float]:
    """Seconds of the producer's schedule that must come at once after a pause, and the seconds in which they must.

    Args:
        paused: seconds from the fault to the end of the pause.
        hold: seconds that were asked for.

    Example:
        >>> burst(10.0, 10.0)
        (6.4, 3.2)
    """
    due = 0.8 * (paused - FLIGHT_SECONDS)
    return due, 0.5 * min(due, hold)


class TearJournal(Plain):
    """A part of a frame lies behind the journal of a held engine, which then dies: as after a death in the middle of an append."""

    def strike(self, outcome: Outcome) -> None:
        """Hold the engine, tear, kill, and see the next one begin behind the tear, which stays where it is."""
        scene = self.scene
        folder = scene.stack.settings.checkpoint_dir / scene.stack.settings.app / "journal"
        hold_driver(scene, outcome)
        epoch, torn = scene.progress.epoch(), folder / segment_names(folder)[-1].file
        _append(torn, TORN)
        if kill_service(scene, outcome) is None:
            return
        await_new_life(scene, outcome, epoch)
        names = [name for name in segment_names(folder) if name.epoch > epoch]
        if not names:
            return
        first = decode(read_segment(folder / names[0].file)[0].head, names[0].file)
        if not isinstance(first, Open) or first.follows != torn.name:
            outcome.doubts.append(f"{names[0].file} does not follow {torn.name}, which was torn")
        if not torn.read_bytes().endswith(TORN):
            outcome.doubts.append(f"{torn.name} does not end with the tear any more")

    def heal(self) -> None:
        """Let the engine go on, if it was left held."""
        resume(self.scene)


class LoseSnapshot(Plain):
    """The newest snapshot of a shard is gone when the engine has to read its state."""

    def prepare(self) -> None:
        """Wait until there is one.

        Raises:
            StreamingError: there is none after minutes.
        """
        self.scene.say("waiting for a snapshot")
        for _ in looks(_SNAPSHOT_SECONDS, 0.2):
            if self._newest() is not None:
                return
        raise StreamingError(f"the engine has written no snapshot within {_SNAPSHOT_SECONDS:g} s")

    def strike(self, outcome: Outcome) -> None:
        """Hold the engine, remove the file, kill, and see the next one say that it misses it, and go on."""
        scene = self.scene
        hold_driver(scene, outcome)
        lost = self._newest()
        if lost is None:
            outcome.doubts.append("there was no snapshot to remove")
            return
        scene.say(f"removing {lost.name}")
        lost.unlink()
        log = scene.stack.settings.data_dir / "logs" / "engine.log"
        said, epoch = log.stat().st_size, scene.progress.epoch()
        if kill_service(scene, outcome) is None:
            return
        await_new_life(scene, outcome, epoch)
        lines = log.read_bytes()[said:].decode(errors="replace").splitlines()
        if not any(FALLS_BACK in line and lost.name in line for line in lines):
            outcome.doubts.append(f"the engine did not say that {lost.name} is gone")

    def heal(self) -> None:
        """Let the engine go on, if it was left held."""
        resume(self.scene)

    def _newest(self) -> Path | None:
        settings = self.scene.stack.settings
        found = (settings.checkpoint_dir / settings.app / "state").rglob("*.snap")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
