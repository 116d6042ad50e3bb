"""The engine's processes of a stack: one, or replicas that share the work.

Owns: engines_of, page_port, PORTS_APART.
Never: a process.
"""

from typing import Final

from services.settings import Settings

PORTS_APART: Final = 20
"""The page of engine N is on METRICS_PORT + 20 (N - 1)."""


def engines_of(settings: Settings) -> tuple[str, ...]:
    """The names of the engine's processes.

    Example:
        >>> engines_of(Settings(engines=3))
        ('engine', 'engine-2', 'engine-3')
    """
    return ("engine", *(f"engine-{number}" for number in range(2, settings.engines + 1)))


def page_port(settings: Settings, name: str) -> int:
    """The port of an engine's page.

    Example:
        >>> page_port(Settings(engines=3), "engine-2")
        19128
    """
    return settings.metrics_port + PORTS_APART * engines_of(settings).index(name)
