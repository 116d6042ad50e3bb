"""What whoever controls the replicas wants of units and replicas: it outlives them all, in a file of the folder that they share.

    control.json    {"format": 1, "units": {NAME: {"time", "state"}}, "replicas": {NAME: {"time", "state"}},
                     "executors": {UNIT: {"time", "number"}}}

Each entry is the newest wish that came for its name, and the later one of two is the greater. So commands may come in any order, and
come again, also from the first ever: the same file follows from the same commands. A command to a job is one to each of its units,
so a unit of a paused job can be resumed alone.

Owns: Command, Desired, Executors, Wish, after, apply, checked, is_drained, orders_of, read_desired.
Never: a process; replicas bring theirs to what is wanted.
"""

import fcntl
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from engine.checkpoint.files import make_folder, write_durably, writing
from engine.cluster.replica import Orders
from engine.cluster.units import Unit
from engine.errors import ConfigurationError, StateVersionError

FORMAT: Final = 1
MOST_EXECUTORS: Final = 64
FILE: Final = "control.json"

PAUSED: Final = "paused"
DRAINED: Final = "drained"
RUNNING: Final = "running"

_STATES: Final = {"pause": PAUSED, "drain": DRAINED, "resume": RUNNING}
"""What a command wants its units, or its replica, to be."""
COMMANDS: Final = (*_STATES, "rescale")


class Wish(msgspec.Struct, frozen=True, order=True):
    """What a unit or a replica is to be."""

    time: int
    """When it was commanded, milliseconds since the epoch."""
    state: str
    """paused, drained or running."""


class Executors(msgspec.Struct, frozen=True, order=True):
    """How many executors a unit is to have."""

    time: int
    """When it was commanded, milliseconds since the epoch."""
    number: int


class Desired(msgspec.Struct, frozen=True):
    """All that is wanted; what was never commanded runs as the settings say."""

    format: int = FORMAT
    units: dict[str, Wish] = {}
    replicas: dict[str, Wish] = {}
    executors: dict[str, Executors] = {}
    """By unit."""

    def newest(self) -> int:
        """The time of the newest command; one that is to count must be later."""
        told = [wish.time for wishes in (self.units, self.replicas) for wish in wishes.values()]
        return max(told + [each.time for each in self.executors.values()], default=0)


W = TypeVar("W", Wish, Executors)
"""What is wanted of one name."""


class Command(msgspec.Struct, frozen=True):
    """What someone wants, found to be possible."""

    command: str
    name: str
    """Of the job, the unit or the replica."""
    time: int
    units: tuple[str, ...]
    """The units that it is about; none when it is about a replica."""
    executors: int = 0
    """Of each unit, where the command is rescale."""


class _Message(msgspec.Struct):
    command: str
    name: str
    time: int
    executors: Any = None


def checked(message: dict[str, Any] | bytes, units: Sequence[Unit], replicas: Collection[str]) -> Command:
    """The command that a message is.

    Where a replica has the name of a job or a unit, the name is theirs.

    Args:
        message: {"command", "name", "time"}, of rescale also "executors".
        units: all that there are.
        replicas: the names of all that have told of themselves.

    Raises:
        ConfigurationError: it is no command, or not one for this name.

    Example:
        >>> units = [Unit(n, f"totals-{n}", "totals", "views", (n,)) for n in (0, 1)]
        >>> checked({"command": "drain", "name": "totals", "time": 7}, units, ["engine-1"]).units
        ('totals-0', 'totals-1')
        >>> checked({"command": "drain", "name": "engine-1", "time": 7}, units, ["engine-1"]).units
        ()
    """
    try:
        said = (
            msgspec.json.decode(message, type=_Message)
            if isinstance(message, bytes)
            else msgspec.convert(message, _Message)
        )
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f'{message!r} is no command ({error}); send one like {{"command": "pause", "name": JOB, "time": MILLISECONDS}}'
        ) from error
    if said.command not in COMMANDS:
        raise ConfigurationError(f"there is no command {said.command!r}; choose from {', '.join(COMMANDS)}")
    jobs = {unit.job: tuple(each.name for each in units if each.job == unit.job) for unit in units}
    names = {unit.name: (unit.name,) for unit in units} | jobs
    what, choices = {
        "pause": ("job or unit", names),
        "resume": ("job, unit or replica", names | dict.fromkeys(sorted({*replicas} - names.keys()), ())),
        "drain": ("job or replica", jobs | dict.fromkeys(sorted({*replicas} - names.keys()), ())),
        "rescale": ("job", jobs),
    }[said.command]
    if said.name not in choices:
        raise ConfigurationError(
            f"there is no {what} {said.name!r} to {said.command}; choose from {', '.join(choices)}"
        )
    executors = 0 if said.command != "rescale" else _number(said.executors)
    return Command(said.command, said.name, said.time, choices[said.name], executors)


def _number(executors: Any) -> int:
    """A number of executors that a unit may have."""
    if type(executors) is not int or not 1 <= executors <= MOST_EXECUTORS:
        raise ConfigurationError(
            f"executors={executors!r} is not valid: it must be a whole number from 1 to {MOST_EXECUTORS}"
        )
    return executors


def after(desired: Desired, command: Command) -> Desired:
    """What is wanted once a command has come; the same, when a later one had come before it.

    Example:
        >>> paused = after(Desired(), Command("pause", "trending", 7, ("trending",)))
        >>> resumed = after(paused, Command("resume", "trending", 8, ("trending",)))
        >>> resumed.units["trending"].state
        'running'
        >>> after(resumed, Command("pause", "trending", 7, ("trending",))) == resumed
        True
    """
    if command.command == "rescale":
        wanted = Executors(command.time, command.executors)
        return msgspec.structs.replace(
            desired, executors=_later(desired.executors, dict.fromkeys(command.units, wanted))
        )
    wish = Wish(command.time, _STATES[command.command])
    if not command.units:
        return msgspec.structs.replace(desired, replicas=_later(desired.replicas, {command.name: wish}))
    return msgspec.structs.replace(desired, units=_later(desired.units, dict.fromkeys(command.units, wish)))


def _later(known: dict[str, W], new: dict[str, W]) -> dict[str, W]:
    """By name the later of two wishes; of two at the same time the greater, whichever came first."""
    return known | {name: max(wish, known.get(name, wish)) for name, wish in new.items()}


def read_desired(folder: Path) -> Desired:
    """What is wanted now.

    Args:
        folder: that the replicas share.

    Raises:
        StateVersionError: the file is of another version, or damaged.
    """
    path = folder / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Desired)
    except FileNotFoundError:
        return Desired()
    except msgspec.MsgspecError as error:
        raise StateVersionError(
            f"{path} does not tell what is wanted of the replicas ({error}); restore it, or remove it: then all units run"
        ) from error
    if found.format != FORMAT:
        raise StateVersionError(
            f"{path} has format {found.format} and this version reads {FORMAT}; use the version that wrote it"
        )
    return found


def apply(folder: Path, command: Command) -> Desired:
    """Note a command; durable when this returns, and nothing is written where it changes nothing.

    Args:
        folder: that the replicas share; any number of them may note commands at once.
        command: what is wanted.

    Returns:
        All that is wanted now.

    Raises:
        StateVersionError: the file is of another version, or damaged.
        CheckpointWriteError: the volume is full, or fails.
    """
    make_folder(folder)
    path = folder / FILE
    with writing(path):
        lock = os.open(folder / "control.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read_desired(folder)
        wanted = after(known, command)
        if wanted != known:
            with writing(path):
                # Who was killed while it wrote left this, and its pid may be ours.
                for rest in folder.glob(f"{FILE}.tmp-*"):
                    rest.unlink()
            write_durably(path, msgspec.json.encode(wanted))
    finally:
        os.close(lock)
    return wanted


def orders_of(desired: Desired, units: Sequence[Unit]) -> Orders:
    """What is wanted of these units, as a replica obeys it.

    Example:
        >>> desired = Desired(units={"totals": Wish(7, "paused")}, executors={"totals": Executors(8, 4)})
        >>> orders = orders_of(desired, [Unit(0, "totals", "totals", "views", (0,))])
        >>> sorted(orders.paused), sorted(orders.drained), orders.executors
        (['totals'], [], {'totals': 4})
    """
    names = {unit.name for unit in units}
    states = {name: wish.state for name, wish in desired.units.items() if name in names}
    return Orders(
        paused=frozenset(name for name, state in states.items() if state == PAUSED),
        drained=frozenset(name for name, state in states.items() if state == DRAINED),
        executors={name: each.number for name, each in desired.executors.items() if name in names},
    )


def is_drained(desired: Desired, replica: str) -> bool:
    """Whether a replica is to hold nothing.

    Example:
        >>> is_drained(Desired(replicas={"engine-2": Wish(7, "drained")}), "engine-2")
        True
    """
    return replica in desired.replicas and desired.replicas[replica].state == DRAINED
