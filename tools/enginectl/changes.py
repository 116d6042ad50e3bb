"""What is still missing until a command is done, told from what the replicas tell.

Owns: Change, is_silent.
Never: a request; who asks the replicas shows it what they say.
"""

from dataclasses import dataclass
from typing import Final

from services.pipeline.control import Executors, Wish
from services.pipeline.told import SILENT_MS
from tools.enginectl.client import Replica, Status, Unit

_WORKS: Final = "running"
_REFUSED: Final = ("paused", "drained")


@dataclass(frozen=True, slots=True)
class Change:
    """A command, and how everything stood before it."""

    command: str
    name: str
    time: int
    """Of the command, milliseconds since the epoch."""
    before: Status
    executors: int | None = None

    @property
    def is_of_replica(self) -> bool:
        """Whether it is about a replica: jobs and units go first."""
        return not self.before.of(self.name)

    def missing(self, now: Status) -> list[str]:
        """What is not yet as it is to be, in a few words each; nothing when it is done."""
        if not self._is_known(now):
            return ["it to be noted"]
        if self.is_of_replica:
            return self._missing_of_replica(now)
        units = now.of(self.name)
        if self.command == "rescale":
            waits = [unit for unit in units if unit.state not in _REFUSED and not self._is_new(unit)]
        else:
            wanted = {"pause": "paused", "drain": "drained", "resume": _WORKS}[self.command]
            waits = [unit for unit in units if unit.state != wanted]
        return [f"{unit.unit} ({unit.state})" for unit in waits]

    def sentence(self, now: Status) -> str:
        """What is so now that it is done."""
        names = ", ".join(unit.unit for unit in now.of(self.name))
        if self.is_of_replica:
            if self.command == "drain":
                return f"{self.name} is drained: it holds no unit and takes none until `resume {self.name}`"
            held = ", ".join(unit.unit for unit in now.units if unit.owner == self.name)
            return f"{self.name} is a member again and holds {held or 'no unit yet'}"
        stays = [unit for unit in now.of(self.name) if unit.state in _REFUSED]
        later = f"; {', '.join(unit.unit for unit in stays)} will when resumed" if stays else ""
        return {
            "pause": f"{self.name} is paused: {names} begin no batch and keep their processes until `resume {self.name}`",
            "drain": f"{self.name} is drained: {names} have no process until `resume {self.name}`",
            "resume": f"{self.name} runs: {names}",
            "rescale": f"{self.name} has {self.executors} executor{'s' * (self.executors != 1)} in each unit: {names}{later}",
        }[self.command]

    def _is_known(self, now: Status) -> bool:
        """Whether the replicas have noted this command, or a later one."""
        known: list[Wish | Executors | None]
        if self.is_of_replica:
            known = [now.desired.replicas.get(self.name)]
        elif self.command == "rescale":
            known = [now.desired.executors.get(unit.unit) for unit in now.of(self.name)]
        else:
            known = [now.desired.units.get(unit.unit) for unit in now.of(self.name)]
        return all(each is not None and each.time >= self.time for each in known)

    def _missing_of_replica(self, now: Status) -> list[str]:
        if self.command == "drain":
            return [f"{unit.unit} (with {self.name})" for unit in now.units if unit.owner == self.name]
        if any(
            each.name == self.name and each.state == "member" and not is_silent(each) for each in now.replicas
        ):
            return []
        return [f"{self.name} to be a member"]

    def _is_new(self, unit: Unit) -> bool:
        """Whether a unit works with the executors that it is to have: its process, and so its page, is another one."""
        known = self.before.desired.executors.get(unit.unit)
        pages = {each.page for each in self.before.units if each.unit == unit.unit}
        had = known is not None and known.number == self.executors
        return unit.state == _WORKS and (had or (unit.page != "" and unit.page not in pages))


def is_silent(replica: Replica) -> bool:
    """Whether a replica has told nothing for so long that it is dead, or cut off from the volume.

    Example:
        >>> is_silent(Replica("engine-2", "member", ago_ms=60_000))
        True
    """
    return replica.ago_ms > SILENT_MS
