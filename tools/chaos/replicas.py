"""Faults of replicas: their deaths, orderly ends, a zombie, a cut, the death of a single unit, and each started again in turn.

What is looked for is asked of the replicas that are not hit: any of them tells of all.

Owns: PAUSE_SECONDS, KillReplica, KillReplicas, TerminateReplica, RollingUpgrade, PauseReplica, CutReplica, KillUnit.
Never: a choice of the group's; where a unit goes is only seen.
"""

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping

from engine.errors import StreamingError
from services.pipeline.units import units_of_jobs
from tools.chaos.hits import Plain, doubt_other_pid, resume
from tools.chaos.lanes import lane_of_engine
from tools.chaos.scene import DETECT_SECONDS, FIRST_BATCH_SECONDS, Outcome, Scene
from tools.enginectl.client import Client, Status, Unit
from tools.progress import commits_of_unit
from tools.stack.compose import ComposeStack
from tools.stack.control import looks
from tools.stack.docker import docker
from tools.stack.engines import engines_of, page_port
from tools.stack.events import Event
from tools.stack.programs import State
from tools.stack.verbs import Verbs

FENCED = "fenced: "
"""How a unit's process begins what it says when another has taken over; services.pipeline.main has the line."""

_LOOK_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
_MOMENT_SECONDS = 30.0
_TAKEOVER_SECONDS = 60.0
PAUSE_SECONDS = 60.0
"""Least time of a pause: long after all is taken over."""
_CUT_SECONDS = 15.0
"""More than twice the session, after which the group gives the units of a silent member away."""

Units = Mapping[str, Unit]
"""By name, as the replicas tell of them."""


class OnReplicas(Plain):
    """A hit on replicas; afterwards all of them are members again, and every unit runs."""

    def heal(self) -> None:
        """Start what was left down, let go on what was left held, and see that all is as before."""
        scene = self.scene
        for status in scene.stack.status():
            if status.name in engines_of(scene.stack.settings):
                if status.state == State.PAUSED:
                    scene.stack.resume(status.name)
                elif status.pid is None:
                    scene.say(f"starting {status.name} again")
                    scene.stack.start(status.name)
        scene.say("waiting until all replicas are members and all units run")
        names = set(engines_of(scene.stack.settings))
        self.await_status(
            lambda now: (
                {each.name for each in now.replicas if each.state == "member"} >= names
                and all(unit.state == "running" for unit in now.units)
            ),
            "all replicas are members, and all units run",
        )

    def status(self, away: Collection[str] = ()) -> Status:
        """What a replica tells that is not away.

        Raises:
            StreamingError: none answers.
        """
        settings = self.scene.stack.settings
        urls = [
            f"http://127.0.0.1:{page_port(settings, name)}"
            for name in engines_of(settings)
            if name not in away
        ]
        return Client(urls, _ANSWER_SECONDS).status()

    def units(self) -> Units:
        """The units as they are now."""
        return {unit.unit: unit for unit in self.status().units}

    def await_status(self, is_so: Callable[[Status], bool], what: str, away: Collection[str] = ()) -> Status:
        """What the replicas tell once it is so.

        Raises:
            StreamingError: it was not in time.
        """
        last = "nobody answered"
        for _ in looks(_TAKEOVER_SECONDS, _LOOK_SECONDS):
            try:
                now = self.status(away)
            except StreamingError as error:
                last = str(error)
                continue
            if is_so(now):
                return now
            last = ", ".join(f"{unit.unit} {unit.state} at {unit.owner}" for unit in now.units)
        raise StreamingError(f"within {_TAKEOVER_SECONDS:g} s it was never so that {what}; at last: {last}")

    def busiest(self, units: Units, number: int = 1) -> list[str]:
        """The replicas that hold the most units, the last of two that hold as many."""
        held = {name: len(of_replica(units, [name])) for name in engines_of(self.scene.stack.settings)}
        return sorted(held, key=lambda name: (held[name], name))[-number:]

    def await_elsewhere(self, outcome: Outcome, units: Collection[str], away: Collection[str]) -> None:
        """See units run at replicas that are not away."""
        self.scene.say(f"waiting until {', '.join(sorted(units))} run elsewhere")
        self.await_status(
            lambda now: all(
                unit.state == "running" and unit.owner not in away for unit in now.units if unit.unit in units
            ),
            f"{', '.join(sorted(units))} run elsewhere than at {', '.join(away)}",
            away,
        )
        if outcome.restart is None:
            outcome.restart = self.scene.since()

    def doubt_others(self, outcome: Outcome, before: Units, hit: Collection[str]) -> None:
        """Units that were not hit must run in the processes that they had; where the group has moved one, that is remarked."""
        for name, unit in self.units().items():
            was = before[name]
            if name in hit:
                continue
            if unit.owner != was.owner:
                outcome.remarks.append(f"{name} was moved from {was.owner} to {unit.owner}")
            elif unit.process != was.process:
                outcome.doubts.append(f"{name} is another process, though {unit.owner} was not hit")


def of_replica(units: Units, replicas: Collection[str]) -> list[str]:
    """The names of the units that replicas hold."""
    return [name for name, unit in units.items() if unit.owner in replicas]


class KillReplica(OnReplicas):
    """SIGKILL to the replica with the most units; the stack starts it again, and the group gives its units to whom it sees fit."""

    number = 1

    def strike(self, outcome: Outcome) -> None:
        """Kill, and see its units run again in new processes."""
        scene, before = self.scene, self.units()
        victims = self.busiest(before, self.number)
        hit, epoch = of_replica(before, victims), scene.progress.epoch()
        kills: list[Event] = []
        for scene.victim in victims:
            kills.append(scene.kill())
        scene.begin(kills[0])
        for scene.victim, kill in zip(victims, kills, strict=True):
            death = scene.await_death(outcome, kill)
            if death is not None and death.facts["signal"] != "SIGKILL":
                outcome.doubts.append(f"{scene.victim} did not die by SIGKILL but so: {dict(death.facts)}")
        newest = scene.progress.newest().time
        scene.say(f"waiting until {', '.join(hit)} run again")
        self.await_status(
            lambda now: all(
                unit.state == "running" and unit.process != before[unit.unit].process
                for unit in now.units
                if unit.unit in hit
            ),
            f"{', '.join(hit)} run again",
        )
        outcome.restart = scene.since()
        scene.await_first_batch(outcome, newest)
        if scene.progress.epoch() < epoch + len(hit):
            outcome.doubts.append(
                "not each of its units has begun a new epoch, so one goes on in its old process"
            )
        self.doubt_others(outcome, before, hit)


class KillReplicas(KillReplica):
    """SIGKILL to two replicas at once."""

    number = 2

    def doubt_others(self, outcome: Outcome, before: Units, hit: Collection[str]) -> None:
        """Nothing: most of the group is new, and has shared the work out anew."""


class TerminateReplica(OnReplicas):
    """SIGTERM: the replica lets its batches commit and leaves the group, and the others take over at once."""

    def strike(self, outcome: Outcome) -> None:
        """Ask it to end, see its units run elsewhere, and start it again."""
        before = self.units()
        victim = self.busiest(before)[0]
        self.cycle(outcome, victim, before)
        self.heal()
        moved = [
            name
            for name, unit in self.units().items()
            if before[name].owner != victim and unit.process != before[name].process
        ]
        if moved:
            outcome.doubts.append(f"{', '.join(moved)} did not stay where they were, and none was {victim}'s")

    def cycle(self, outcome: Outcome, victim: str, before: Units) -> None:
        """One replica's end and start."""
        scene = self.scene
        scene.victim, hit = victim, of_replica(before, [victim])
        newest = scene.progress.newest().time
        scene.say(f"ending {victim}")
        order = scene.stack.kill(victim, signal.SIGTERM)
        if not scene.struck:
            scene.begin(order)
        self.await_elsewhere(outcome, hit, [victim])
        death = scene.stack.wait_for(victim, "death", after=order.time, timeout_seconds=DETECT_SECONDS)
        if outcome.detect is None:
            outcome.detect = death.time - scene.struck
        if death.facts["exit_code"] != 0:
            outcome.doubts.append(f"{victim} ended otherwise than with exit code 0: {dict(death.facts)}")
        if outcome.first_batch is None:
            scene.await_first_batch(outcome, newest)
        else:
            scene.progress.await_newer(newest, FIRST_BATCH_SECONDS)
        scene.say(f"starting {victim}")
        scene.stack.start(victim)


class RollingUpgrade(TerminateReplica):
    """Every replica in turn is ended and started again, as for a new version; the next when the one before is a member again."""

    def strike(self, outcome: Outcome) -> None:
        """End and start each, the units of each elsewhere meanwhile."""
        for name in engines_of(self.scene.stack.settings):
            self.cycle(outcome, name, self.units())
            self.heal()


class PauseReplica(OnReplicas):
    """A replica and its units are held in the middle of a batch for a minute: a machine that hung. Woken, it is a zombie."""

    def strike(self, outcome: Outcome) -> None:
        """Hold, see others take over, wake, and see the write that it had begun fenced."""
        scene, before = self.scene, self.units()
        scene.victim = victim = self.busiest(before)[0]
        hit = of_replica(before, [victim])
        held = scene.begin(self._hold_in_batch(outcome, hit))
        newest = scene.progress.newest().time
        self.await_elsewhere(outcome, hit, [victim])
        scene.await_first_batch(outcome, newest)
        seconds = max(scene.hold_seconds, PAUSE_SECONDS)
        scene.say(f"{victim} stays paused for {seconds:g} s")
        scene.hold(outcome, seconds)
        scene.say(f"waking {victim}")
        said = said_by(scene.stack, victim)
        resume(scene)
        doubt_other_pid(scene, outcome, held)
        if not any(FENCED in said() for _ in looks(DETECT_SECONDS, _LOOK_SECONDS)):
            outcome.doubts.append(f"no unit of {victim} said that its write was fenced")
        now = self.units()
        back = [name for name in hit if now[name].process == before[name].process]
        if back:
            outcome.doubts.append(f"{', '.join(back)} run in the processes that were taken over")

    def _hold_in_batch(self, outcome: Outcome, hit: Collection[str]) -> Event:
        """Hold the replica at a moment at which one of its units has begun a batch and not committed it."""
        scene = self.scene
        settings = scene.stack.settings
        units = [unit for unit in units_of_jobs(settings) if unit.name in hit]
        journals = [commits_of_unit(settings, unit) for unit in units]
        scene.say(f"holding {scene.victim} in a batch")
        for _ in looks(_MOMENT_SECONDS, _LOOK_SECONDS):
            if any(journal.newest().in_flight for journal in journals):
                held = scene.stack.pause(scene.victim)
                if scene.is_held() and any(journal.newest().in_flight for journal in journals):
                    return held
                resume(scene)
        outcome.doubts.append(f"{scene.victim} could not be held in a batch")
        return scene.stack.pause(scene.victim)


class CutReplica(OnReplicas):
    """Nothing passes between one replica and Kafka; it lives, and so do its units. In containers Cassandra is away for it too.

    Args:
        scene: where it strikes.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        scene.victim = engines_of(scene.stack.settings)[-1]
        self._lane = lane_of_engine(scene.stack, scene.victim, scene.say)

    def prepare(self) -> None:
        """Have a way that can be cut, and wait until the replica has units."""
        self._lane.open()
        super().heal()
        self.await_status(
            lambda now: any(unit.owner == self.scene.victim for unit in now.units),
            f"{self.scene.victim} holds a unit",
        )

    def strike(self, outcome: Outcome) -> None:
        """Cut, see others take over, join, and see the same process as a member again."""
        scene, before = self.scene, self.units()
        victim, hit = scene.victim, of_replica(before, [scene.victim])
        pid = scene.pid(victim)
        newest = scene.progress.newest().time
        scene.say(f"cutting {victim} from Kafka")
        scene.begin(Event(time.time(), victim, "cut", {}))
        self._lane.cut()
        self.await_elsewhere(outcome, hit, [victim])
        scene.await_first_batch(outcome, newest)
        scene.hold(outcome, max(scene.hold_seconds, _CUT_SECONDS))
        scene.say(f"joining {victim} again")
        self._lane.mend()
        super().heal()
        if scene.pid(victim) != pid:
            outcome.remarks.append(f"{victim} did not outlive the cut: it ended, and was started again")

    def heal(self) -> None:
        """Mend the way, and leave it as it was found."""
        try:
            self._lane.mend()
        finally:
            self._lane.close()
        super().heal()


class KillUnit(OnReplicas):
    """SIGKILL to the process of one unit; its replica starts it again."""

    def strike(self, outcome: Outcome) -> None:
        """Kill, and see the same replica run it in another process."""
        scene, before = self.scene, self.units()
        name = min(before)
        unit = before[name]
        if unit.pid is None or unit.owner is None:
            raise StreamingError(f"unit {name} has no process to kill; is it paused or drained?")
        scene.victim, newest = unit.owner, scene.progress.newest().time
        scene.say(f"killing the process of {name}")
        scene.begin(Event(time.time(), unit.owner, "unit", {"pid": unit.pid}))
        if isinstance(scene.stack, ComposeStack):
            docker("exec", scene.stack.container(unit.owner).id, "sh", "-c", f"kill -9 {unit.pid}")
        else:
            os.kill(unit.pid, signal.SIGKILL)
        now = self.await_status(
            lambda now: any(
                each.unit == name and each.state == "running" and each.pid != unit.pid for each in now.units
            ),
            f"{name} runs in another process",
        )
        outcome.restart = scene.since()
        scene.await_first_batch(outcome, newest)
        owner = next(each.owner for each in now.units if each.unit == name)
        if owner != unit.owner:
            outcome.doubts.append(f"{name} runs at {owner}, and not where its process died")
        self.doubt_others(outcome, before, [name])


def said_by(stack: Verbs, name: str) -> Callable[[], str]:
    """What an engine's log has got since now, whenever it is asked for."""
    if isinstance(stack, ComposeStack):
        began = time.time()
        return lambda: stack.said(name, began)
    log = stack.settings.data_dir / "logs" / f"{name}.log"
    size = log.stat().st_size

    def since() -> str:
        with log.open("rb") as file:
            file.seek(size)
            return file.read().decode(errors="replace")

    return since
