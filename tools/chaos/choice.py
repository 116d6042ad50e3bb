"""Which stack a drill is for: processes, the embedded one, or the containers of `make up`.

Owns: drill_settings, stack_of.
Never: a start of anything.
"""

import os
from collections.abc import Callable

from services.settings import Settings, load_settings
from tools.stack.api import Stack
from tools.stack.compose import ComposeStack, project_of, settings_of
from tools.stack.folder import Folder, read_json
from tools.stack.verbs import Verbs


def drill_settings() -> Settings:
    """The settings of the stack that is meant.

    SEED is the drill's here; the producers keep the one that their log was begun with. A stack of containers tells its own
    settings: they may come from a file that only compose has read.
    """
    os.environ.pop("SEED", None)
    if not os.environ.get("STACK") and (load_settings().data_dir / "compose").exists():
        os.environ["STACK"] = "compose"
    settings = load_settings()
    if settings.stack == "compose":
        return settings_of(project_of(settings), settings)
    known = read_json(Folder(settings.data_dir).settings)
    return settings.model_copy(update={"seed": int(known["SEED"])}) if known else settings


def stack_of(settings: Settings, report: Callable[[str], None]) -> Verbs:
    """The stack of these settings."""
    if settings.stack == "compose":
        return ComposeStack(settings, report=report)
    return Stack(settings, report=report)
