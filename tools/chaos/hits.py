"""The kinds of faults: how each strikes, how it proves that it had its effect, and how it is healed.

A hit is used once. `heal` comes after `strike` however that ended, and leaves the stack whole.

Owns: Hit, Make, Plain, KillEngine, KillProducer, RestartServer, PauseServer, PauseEngine, Cut, Slow, FillCheckpoint.
Never: a wait for the moment, a verdict; those are the drill's.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Protocol

from engine.errors import StreamingError
from tools.chaos.lanes import Lane, lane_of
from tools.chaos.scene import DETECT_SECONDS, FIRST_BATCH_SECONDS, FLIGHT_SECONDS, Outcome, Scene
from tools.chaos.volume import SmallVolume
from tools.progress import LOOK_SECONDS
from tools.stack.control import looks
from tools.stack.events import Event
from tools.stack.programs import State
from tools.stack.ready import is_answering

SLOW_SECONDS = 1.0
"""So much longer an answer takes; a batch has several requests one after the other."""


class Hit(Protocol):
    """One fault, once."""

    def prepare(self) -> None:
        """What has to be done before the moment; the engine catches up again afterwards."""
        ...

    def strike(self, outcome: Outcome) -> None:
        """Begin the fault, prove its effect, end it where the stack does not, and wait for the first new commit."""
        ...

    def heal(self) -> None:
        """Leave the stack whole, however far the strike came."""
        ...


Make = Callable[[Scene], Hit]
"""A hit for a scene."""


class Plain:
    """A hit that needs nothing beforehand and nothing afterwards.

    Args:
        scene: where it strikes.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def prepare(self) -> None:
        """Nothing."""

    def heal(self) -> None:
        """Nothing: what was killed is started again by the stack."""


class KillEngine(Plain):
    """SIGKILL; the stack starts the engine again, which replays the batch that was in flight."""

    def strike(self, outcome: Outcome) -> None:
        """Kill, and see another process go on in another epoch of the journal."""
        scene = self.scene
        epoch = scene.progress.epoch()
        if kill_service(scene, outcome) is None:
            return
        await_new_life(scene, outcome, epoch)


def await_new_life(scene: Scene, outcome: Outcome, epoch: int) -> None:
    """See another process go on in an epoch later than this one: state restored, first batch."""
    scene.say("waiting for the engine's next epoch")
    if not scene.await_epoch(epoch):
        outcome.doubts.append(f"the journal is still in epoch {epoch}, so the same process went on")
    opened = scene.since()
    # What the new process has restored; from outside, a commit just before the death may not have been seen.
    scene.await_first_batch(outcome, scene.progress.newest().time)
    scene.note_restored(outcome, opened)


class KillProducer(Plain):
    """SIGKILL; the stack starts the producer again, which reads back where it stopped."""

    def strike(self, outcome: Outcome) -> None:
        """Kill, and see new records of another process come through."""
        scene = self.scene
        before = kill_service(scene, outcome)
        if before is None:
            return
        # The batches of a silent producer are empty: the first that counts is one that took a record of the new life.
        ends = scene.progress.ends()
        scene.say("waiting for the first commit with new records")
        for _ in looks(FIRST_BATCH_SECONDS, LOOK_SECONDS):
            newest = scene.progress.newest()
            if newest.time > before and any(newest.ends.get(place, 0) > end for place, end in ends.items()):
                outcome.first_batch = scene.since()
                return
        outcome.doubts.append("no record of the new producer was committed")


def kill_service(scene: Scene, outcome: Outcome) -> int | None:
    """Kill a service that the stack starts again; the newest batch before the death, None when it did not die."""
    kill = scene.kill()
    death = scene.await_death(outcome, kill)
    if death is None:
        return None
    before = scene.progress.newest().time
    name = scene.victim
    # A container's death comes without a pid.
    if death.facts["signal"] != "SIGKILL" or death.facts.get("pid", kill.facts["pid"]) != kill.facts["pid"]:
        outcome.doubts.append(f"{name} did not die by SIGKILL but so: {dict(death.facts)}")
    restart = scene.stack.wait_for(name, "restart", after=kill.time)
    outcome.restart = restart.time - scene.struck
    if restart.facts["pid"] == kill.facts["pid"]:
        outcome.doubts.append(f"{name} has the pid {kill.facts['pid']} as before")
    return before


class Server:
    """A hit on a server that the engine has to outlive.

    Args:
        scene: where it strikes.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._engines: dict[str, int | None] = {}

    def prepare(self) -> None:
        """Nothing."""

    def remember(self) -> None:
        """Keep in mind which process the engine is."""
        self._engines = self.scene.engines()

    def compare(self, outcome: Outcome) -> None:
        """Remark an engine that is not the one that was remembered."""
        for name, pid in self.scene.engines().items():
            if pid != self._engines[name]:
                outcome.remarks.append(
                    f"{name} did not wait for {self.scene.victim} but died and was started again"
                )

    def doubt_answers(self, outcome: Outcome) -> Callable[[], None]:
        """A check that the server answers nobody."""
        scene = self.scene

        def check() -> None:
            if scene.since() > FLIGHT_SECONDS and is_answering(scene.victim, scene.stack.settings):
                outcome.doubts.append(f"{scene.victim} answered {scene.since():.1f} s after the fault")

        return check


class RestartServer(Server):
    """SIGKILL to a server, which is started again after the hold."""

    def strike(self, outcome: Outcome) -> None:
        """Kill, see nothing answered and nothing committed, start."""
        scene = self.scene
        self.remember()
        kill = scene.kill()
        if scene.await_death(outcome, kill) is None:
            return
        before = scene.hold_silent(outcome, scene.hold_seconds, "stopped", self.doubt_answers(outcome))
        scene.say(f"starting {scene.victim}")
        scene.stack.start(scene.victim)
        outcome.restart = scene.since()
        if scene.pid(scene.victim) == kill.facts["pid"]:
            outcome.doubts.append(f"{scene.victim} has the pid {kill.facts['pid']} as before")
        scene.await_first_batch(outcome, before)
        self.compare(outcome)

    def heal(self) -> None:
        """Start the server, if it was left down."""
        if self.scene.pid(self.scene.victim) is None:
            self.scene.say(f"starting {self.scene.victim} again")
            self.scene.stack.start(self.scene.victim)


class PauseServer(Server):
    """A server that is held, connections and all, for the length of the hold."""

    def strike(self, outcome: Outcome) -> None:
        """Pause, see nothing answered and nothing committed, resume."""
        scene = self.scene
        self.remember()
        scene.progress.close()
        held = scene.begin(scene.stack.pause(scene.victim))
        if not scene.is_held():
            outcome.doubts.append(f"{scene.victim} was not held")
        before = scene.hold_silent(outcome, scene.hold_seconds, "paused", self.doubt_answers(outcome))
        self.heal()
        outcome.restart = scene.since()
        doubt_other_pid(scene, outcome, held)
        scene.await_first_batch(outcome, before)
        self.compare(outcome)

    def heal(self) -> None:
        """Let the server go on."""
        resume(self.scene)


class PauseEngine(Plain):
    """An engine that is held for the length of the hold: the state of a machine that was suspended."""

    def strike(self, outcome: Outcome) -> None:
        """Pause, see no commit, resume, and see one batch take over all the times that were missed."""
        scene = self.scene
        interval_ms = scene.stack.settings.batch_seconds * 1_000
        held = scene.begin(scene.stack.pause("engine"))
        if not scene.is_held():
            outcome.doubts.append("the engine was not held")
        before = scene.hold_silent(outcome, scene.hold_seconds, "paused")
        self.heal()
        outcome.restart = scene.since()
        doubt_other_pid(scene, outcome, held)
        scene.await_first_batch(outcome, before)
        missed = (outcome.restart - FLIGHT_SECONDS) * 1_000 - interval_ms
        gap = widest_gap(scene, before, (scene.struck + outcome.restart) * 1_000)
        if gap < missed:
            outcome.doubts.append(
                f"no batch took over the missed times: {missed:.0f} ms were missed, the widest gap is {gap} ms"
            )

    def heal(self) -> None:
        """Let the engine go on."""
        resume(self.scene)


def widest_gap(scene: Scene, before: int, until: float) -> int:
    """The longest time between two commits that follow each other, until there is one of this time; milliseconds."""
    widest = 0
    for _ in looks(FIRST_BATCH_SECONDS, LOOK_SECONDS):
        newest = scene.progress.newest().time
        widest, before = max(widest, newest - before), newest
        if newest >= until:
            break
    return widest


def resume(scene: Scene) -> None:
    """Let the victim go on, if it is held."""
    if scene.state(scene.victim) == State.PAUSED:
        scene.stack.resume(scene.victim)


def hold_driver(scene: Scene, outcome: Outcome) -> Event:
    """Hold the engine's own process; its workers end what they were given, and let go of whatever they had locked."""
    held = Event(time.time(), "engine", "pause", {"pid": scene.pid("engine")})
    os.kill(held.facts["pid"], signal.SIGSTOP)
    if not scene.is_held():
        outcome.doubts.append("the engine was not held")
    return held


def doubt_other_pid(scene: Scene, outcome: Outcome, held: Event) -> None:
    """After a hold the same process must go on."""
    if scene.pid(scene.victim) != held.facts["pid"]:
        outcome.doubts.append(f"{scene.victim} is another process than the one that was held")


class OnLane(Server):
    """A hit on the way between engine and server.

    Args:
        scene: where it strikes.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.lane: Lane = lane_of(scene.stack, scene.victim, scene.say)

    def prepare(self) -> None:
        """Have a way that can be disturbed."""
        self.lane.open()

    def heal(self) -> None:
        """Mend the way and leave it as it was found."""
        try:
            self.lane.mend()
        finally:
            self.lane.close()


class Cut(OnLane):
    """Nothing passes between engine and server for the length of the hold; both live."""

    def strike(self, outcome: Outcome) -> None:
        """Cut, see nothing committed, join."""
        scene = self.scene
        self.remember()
        server = scene.pid(scene.victim)
        scene.say(f"cutting the way to {scene.victim}")
        scene.begin(Event(time.time(), scene.victim, "cut", {}))
        self.lane.cut()
        before = scene.hold_silent(outcome, scene.hold_seconds, "cut off")
        scene.say(f"joining {scene.victim} again")
        self.lane.mend()
        outcome.restart = scene.since()
        scene.await_first_batch(outcome, before)
        if scene.pid(scene.victim) != server:
            outcome.doubts.append(f"{scene.victim} is another process than before, so it was no mere cut")
        self.compare(outcome)


class Slow(OnLane):
    """Every answer of the server takes a second longer; the engine goes on, at a slower pace."""

    def strike(self, outcome: Outcome) -> None:
        """Slow down, see the pace of commits follow, then be quick again."""
        scene = self.scene
        self.remember()
        scene.say(f"answers of {scene.victim} take {SLOW_SECONDS:g} s longer")
        scene.begin(Event(time.time(), scene.victim, "slow", {}))
        self.lane.slow(SLOW_SECONDS)
        scene.hold(outcome, scene.hold_seconds)
        with contextlib.suppress(StreamingError):  # a doubt in a moment
            # Where connections had to be made anew, the first batch takes longer than all others.
            scene.progress.await_newer(scene.progress.newest().time, FIRST_BATCH_SECONDS)
        outcome.detect = scene.since()
        measured = 2 * scene.hold_seconds
        commits = scene.hold(outcome, outcome.detect + measured)
        pace = measured / max(len(commits), 1)
        if not commits:
            outcome.doubts.append(
                f"no batch was committed in {measured:g} s, so {scene.victim} was away and not slow"
            )
        elif pace < scene.stack.settings.batch_seconds + SLOW_SECONDS / 2:
            outcome.doubts.append(f"a batch was committed every {pace:.2f} s all the same")
        before = scene.progress.newest().time
        self.lane.mend()
        outcome.restart = scene.since()
        scene.await_first_batch(outcome, before)
        self.compare(outcome)


class FillCheckpoint(Plain):
    """No room is left on the checkpoint's volume for the length of the hold; then there is, and nobody starts anything.

    Args:
        scene: where it strikes.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._volume = SmallVolume(scene.stack, scene.say)

    def prepare(self) -> None:
        """Have the engine work on a volume that can be filled."""
        self._volume.open()

    def strike(self, outcome: Outcome) -> None:
        """Fill, see nothing committed and the engine end with the reason, free; the stack starts the engine again."""
        scene = self.scene
        scene.say("filling the checkpoint's volume")
        epoch = scene.progress.epoch()
        full = scene.begin(self._volume.fill())
        before = scene.hold_silent(outcome, scene.hold_seconds, "without room")
        self._doubt_end(outcome, full)
        scene.say("freeing the checkpoint's volume")
        self._volume.free()
        outcome.restart = scene.since()
        scene.await_first_batch(outcome, before)
        if scene.progress.epoch() <= epoch:
            outcome.doubts.append(f"the journal is still in epoch {epoch}, so the same process went on")

    def heal(self) -> None:
        """Copy the checkpoint back and have the engine work on its own volume."""
        self._volume.close()

    def _doubt_end(self, outcome: Outcome, full: Event) -> None:
        """See that the engine has ended, with 1 and the reason."""
        scene = self.scene
        try:
            death = scene.stack.wait_for("engine", "death", after=full.time, timeout_seconds=DETECT_SECONDS)
        except StreamingError:
            outcome.doubts.append(f"the engine did not end within {DETECT_SECONDS:g} s of the full volume")
            return
        outcome.detect = death.time - scene.struck
        if death.facts["exit_code"] != 1:
            outcome.doubts.append(f"the engine ended otherwise than with exit code 1: {dict(death.facts)}")
        if not self._volume.is_named():
            outcome.doubts.append("the engine's log does not say that the checkpoint's volume is full")
