"""Which engine a figure is of: its code and the settings that shape its batches, as one short word.

Runs of different engines must not stand in one table: a proof is of the code that ran.

Owns: revision_of.
Never: a judgement of which changes matter; any does.
"""

import hashlib
from pathlib import Path

from services.settings import REPOSITORY, Settings

FOLDERS = ("engine", "services")
"""What runs, without the tools that watch it."""
SETTINGS = (
    *("batch_seconds", "max_rate_per_partition", "backpressure", "initial_rate", "task_timeout"),
    *("ad_rate", "page_rate", "master", "jobs"),
)
"""What changes the batches that are proven."""

_LETTERS = 12


def revision_of(settings: Settings, root: Path = REPOSITORY) -> str:
    """The word: equal for equal files and settings. In containers it is of the files here, which their image was built of.

    Args:
        settings: of the stack.
        root: holds the folders.

    Example:
        >>> revision_of(Settings()) == revision_of(Settings(master="local[7]"))
        False
    """
    known = hashlib.sha256(repr([getattr(settings, name) for name in SETTINGS]).encode())
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            content = path.read_bytes()
            known.update(f"\n{path.relative_to(root)} {len(content)}\n".encode())
            known.update(content)
    return known.hexdigest()[:_LETTERS]
