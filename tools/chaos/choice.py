"""Which stack a drill is for: processes, the embedded one, or the containers of `make up`.

Owns: drill_settings, stack_of, is_up, alone.
Never: a start of anything.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator

from engine.errors import ConfigurationError
from services.settings import Settings, load_settings, misspelt
from tools.stack.api import Stack
from tools.stack.compose import ComposeStack, project_of, settings_of
from tools.stack.folder import Folder, read_json
from tools.stack.verbs import Verbs

VARIABLES = ("FAULT", "RUNS", "HOLD", "ANEW", "MINUTES", "DEMO")
"""The command's own."""


def drill_settings() -> Settings:
    """The settings of the stack that is meant.

    SEED is the drill's here; the producers keep the one that their log was begun with. A stack of containers tells its own
    settings: they may come from a file that only compose has read.
    """
    os.environ.pop("SEED", None)
    for variable, meant in misspelt(os.environ, VARIABLES):
        if meant in VARIABLES:
            print(f"{variable} is not a setting and is ignored; did you mean {meant}?", file=sys.stderr)
    settings = load_settings()
    if not os.environ.get("STACK") and (settings.data_dir / "compose").exists():
        settings = settings.model_copy(update={"stack": "compose"})
    if settings.stack == "compose":
        return settings_of(project_of(settings), settings)
    known = read_json(Folder(settings.data_dir).settings)
    if not known:
        return settings
    if "engines" not in settings.model_fields_set and "ENGINES" in known:
        settings = settings.model_copy(update={"engines": int(known["ENGINES"])})
    return settings.model_copy(update={"seed": int(known["SEED"])})


def stack_of(settings: Settings, report: Callable[[str], None]) -> Verbs:
    """The stack of these settings."""
    if settings.stack == "compose":
        return ComposeStack(settings, report=report)
    return Stack(settings, report=report)


def is_up(stack: Verbs) -> bool:
    """Whether any process or container of the stack runs.

    Raises:
        ConfigurationError: it is one of containers, and there are none.
    """
    return any(standing.pid for standing in stack.status())


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold off every other drill on this stack.

    Raises:
        ConfigurationError: one is going on.
    """
    folder = settings.data_dir / "drills"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"another drill is going on in {folder}; wait until it has ended, or end it with Ctrl-C"
            ) from None
        yield
