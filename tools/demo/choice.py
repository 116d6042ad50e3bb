"""Which stack the demo runs on, and why, whether Prometheus is there, and on which ports.

Owns: Choice, choose.
Never: a start of anything.
"""

import re
from pathlib import Path
from typing import NamedTuple

from engine.errors import ConfigurationError
from services.settings import Settings
from tools.stack import jars
from tools.stack.monitors import PACKAGE, has_prometheus
from tools.stack.ready import free_port

_NAMES = {"java": "Java", "mvn": "Maven"}


class Choice(NamedTuple):
    """What the demo runs on."""

    settings: Settings
    line: str
    """Says which stack it is and why; the first line of the demo."""
    hint: str = ""
    """What could be there as well, and how; "" when it is there, or is not wanted."""


def choose(settings: Settings, data_dir: Path) -> Choice:
    """The stack that the settings ask for, or the embedded one where this machine cannot run real servers.

    Args:
        settings: as the environment gives them; where they do not say, monitoring is on when Prometheus is installed.
        data_dir: the demo's own folder.
    """
    why = _why_embedded(settings)
    stack = "embedded" if why else "processes"
    line = f"stack: embedded, because {why}" if why else "stack: processes, a real Kafka and Cassandra"
    own = {
        "stack": stack,
        "data_dir": data_dir,
        "checkpoint_dir": data_dir / "checkpoints",
        "monitoring": settings.monitoring if "monitoring" in settings.model_fields_set else has_prometheus(),
        **_ports(settings),
    }
    # Made anew, so that what follows from a port (KAFKA_BOOTSTRAP) follows from the demo's own.
    given = {name: getattr(settings, name) for name in settings.model_fields_set} | own
    given.pop("kafka_bootstrap", None)
    is_silent = not own["monitoring"] and "monitoring" not in settings.model_fields_set
    hint = f"for Prometheus as well: apt-get install {PACKAGE} (Debian)" if is_silent else ""
    return Choice(Settings(**given), line, hint)


def _why_embedded(settings: Settings) -> str:
    if settings.stack == "embedded":
        return "STACK=embedded was asked for"
    missing = [_NAMES[program] for program in jars.missing_programs(settings.jars_dir)]
    if missing:
        found = "was" if len(missing) == 1 else "were"
        return f"{' and '.join(missing)} {found} not found (install a JDK 17 and Maven for the real servers)"
    try:
        jars.check_programs(settings.jars_dir)
    except ConfigurationError as error:
        version = re.search(r"`java` on PATH is (\S+);", str(error))
        return f"the Java found is {version[1] if version else 'another one'} (install a JDK 17 for the real servers)"
    return ""


def _ports(settings: Settings) -> dict[str, int]:
    """Every port of the settings, or a free one in its place."""
    taken: set[int] = set()
    return {name: free_port(value, taken) for name, value in settings if name.endswith("_port")}
