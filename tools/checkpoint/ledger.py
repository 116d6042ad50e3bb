"""The ledger of an application as a file, for a backfill: its batches with their times and ranges.

Owns: write_ledger.
Never: a write to a store.
"""

import json
from pathlib import Path

from engine.checkpoint.files import write_durably
from engine.errors import ConfigurationError
from services.settings import Settings
from tools.verify.proof import open_store
from tools.verify.verdict import CannotTellError


def write_ledger(settings: Settings, path: Path) -> int:
    """Write every batch of the settings' application, a line each; returns their number.

    Raises:
        ConfigurationError: the store cannot be read, or has no batch of it.
    """
    try:
        store = open_store(settings)
        try:
            batches = [batch for piece in store.ledger(settings.app, -1) for batch in piece]
        finally:
            store.close()
    except CannotTellError as error:
        raise ConfigurationError(f"the ledger cannot be read: {error}") from error
    if not batches:
        raise ConfigurationError(f"the ledger has no batch of APP={settings.app}; name one that has run")
    lines = [
        json.dumps({"time": batch.time, "zero": batch.zero_time, "ranges": batch.ranges}) + "\n"
        for batch in batches
    ]
    write_durably(path.absolute(), "".join(lines).encode())
    return len(batches)
