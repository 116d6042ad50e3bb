"""A small volume in the place of the checkpoint's, so that it can be filled to the last byte without touching the machine's disk.

It is a tmpfs. A keeper, a container that does nothing, holds it mounted, because it is gone when nobody mounts it, and copies the
checkpoint there and back while the engine is stopped. The engine's twin works on it meanwhile; the engine's own container and
its volume stay as they are until the copy is whole again. What a drill that was killed has left, the next one brings home.

Owns: SmallVolume, bring_home.
Never: what the drill looks for.
"""

import time
from collections.abc import Callable

from engine.errors import ConfigurationError
from tools.stack.compose import ComposeStack
from tools.stack.docker import Container, docker, project_labels
from tools.stack.events import Event
from tools.stack.verbs import Verbs

_SPARE_MIB = 24
"""Room for what the engine writes until the volume is filled."""
_KEEPER_MIB = 64
"""For the keeper itself and its copying."""
_FULL = "the checkpoint's volume is full"
"""What the engine says; engine.checkpoint.files has the sentence."""

_COPY_OUT = """
set -eu
cp -a "/own/$0" /small/
touch /small/copied
"""
_COPY_BACK = """
set -eu
[ -e /small/copied ] || exit 0
cd /own
rm -rf .new .old
cp -a "/small/$0" .new
sync
mv "$0" .old
mv .new "$0"
sync
rm -rf .old /small/copied
"""
_FILL = "cat /dev/zero >/small/ballast 2>/dev/null || true"
_KEEP_FULL = """
exec 3>>/small/ballast
while [ -e /small/ballast ]; do
  cat /dev/zero >&3 2>/dev/null
  sleep 0.1
done
"""
"""Takes what becomes free, until the ballast is removed; the room is free when it ends."""


class SmallVolume:
    """The engine's checkpoint on a volume that can be filled.

    Args:
        stack: of containers.
        say: is told what goes on.

    Raises:
        ConfigurationError: the stack has no containers.
    """

    def __init__(self, stack: Verbs, say: Callable[[str], None]) -> None:
        if not isinstance(stack, ComposeStack):
            raise ConfigurationError(
                "a volume of plain processes cannot be filled without root; use STACK=compose"
            )
        self._stack = stack
        self._say = say
        self._name = f"{stack.project}-small-checkpoint"
        """Of the volume and of its keeper."""
        self._since = 0.0

    def open(self) -> None:
        """Have the engine go on on a small volume."""
        engine = self._stack.container("engine")
        ((folder, own),) = engine.volumes.items()
        self._say("moving the checkpoint to a small volume")
        used_kib = int(docker("exec", engine.id, "du", "-sk", folder).split()[0])
        self._make(engine, own, used_kib // 1024 + _SPARE_MIB)
        self._stack.stop("engine")
        self._do(_COPY_OUT)
        self._stack.replace("engine", {own: self._name})
        self._stack.start("engine")

    def _make(self, engine: Container, own: str, size_mib: int) -> None:
        """Make the volume, for the engine's user alone, and the keeper, which has the engine's own volume beside it."""
        user, _, group = engine.user.partition(":")
        options = f"size={size_mib}m,uid={user},gid={group or user},mode=0700"
        tmpfs = ("--driver=local", "--opt=type=tmpfs", "--opt=device=tmpfs", f"--opt=o={options}")
        docker("volume", "rm", "--force", self._name)
        docker("volume", "create", *tmpfs, self._name)
        docker(
            "run",
            "--detach",
            f"--name={self._name}",
            *project_labels(self._stack.project, "small-checkpoint"),
            "--init",
            "--read-only",
            "--network=none",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges:true",
            "--pids-limit=64",
            f"--memory={size_mib + _KEEPER_MIB}m",  # what is on a tmpfs counts for those who write it
            f"--user={engine.user}",
            f"--volume={own}:/own",
            f"--volume={self._name}:/small",
            engine.image,
            "sleep",
            "infinity",
        )

    def fill(self) -> Event:
        """Leave no room, and take what becomes free; returns the event of that moment."""
        self._do(_FILL)
        self._since = time.time()
        docker("exec", "--detach", self._name, "sh", "-c", _KEEP_FULL)
        return Event(self._since, "engine", "full", {})

    def is_named(self) -> bool:
        """Whether the engine has said since then what ails it."""
        return _FULL in self._stack.said("engine", self._since)

    def free(self) -> None:
        """Leave room again; the second time it changes nothing."""
        docker("exec", self._name, "rm", "-f", "/small/ballast")

    def close(self) -> None:
        """Have the engine go on on its own volume with all that it has done; the second time it changes nothing."""
        if self._stack.has_container(self._name):
            self._say("moving the checkpoint back to its volume")
            self.free()
            self._stack.stop("engine")
            self._do(_COPY_BACK)
            self._stack.restore("engine")
            self._stack.start("engine")
            # The keeper goes last: as long as it is there, this can be done again.
            docker("rm", "--force", self._name)
            docker("volume", "rm", "--force", self._name)

    def _do(self, script: str) -> None:
        """Run a script in the keeper; its argument is the name of the engine's folder."""
        docker("exec", self._name, "sh", "-c", script, self._stack.settings.app)


def bring_home(stack: Verbs, say: Callable[[str], None]) -> None:
    """Move a checkpoint back that a killed drill has left on a small volume; where there is none, nothing changes."""
    if isinstance(stack, ComposeStack):
        SmallVolume(stack, say).close()
