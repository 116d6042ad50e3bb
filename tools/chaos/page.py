"""What a living engine tells of itself: its processes, and what it has restored.

Owns: state_of_engine.
Never: a commit; those are watched in the journal, also while the engine is dead.
"""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from services.settings import Settings

_SECONDS = 2.0


def state_of_engine(settings: Settings) -> dict[str, Any]:
    """What /api/v1/state says now; nothing when nobody answers."""
    url = f"http://127.0.0.1:{settings.metrics_port}/api/v1/state"
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            told: dict[str, Any] = json.load(answer)
            return told
    except (urllib.error.URLError, http.client.HTTPException, OSError, json.JSONDecodeError):
        return {}
