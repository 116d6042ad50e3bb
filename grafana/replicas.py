"""The row of replicas on the engine's board: who holds the units, how often they change hands, how long that takes.

With one engine (ENGINES=1) each panel says so.

Owns: REPLICAS_ROW.
Never: a way to draw; panels.py has those.
"""

from typing import Final

from grafana.board import Panels
from grafana.expressions import while_none
from grafana.panels import RED, Help, Query, lines, stat

_KNOWN: Final = "engine_build_info"
"""Of the engine, who would have units."""
_ONE: Final = "one engine, no units"
_CTL: Final = "`scripts/enginectl status`"

REPLICAS_ROW: Final[Panels] = [
    (
        6,
        stat(
            "Units without owner",
            Help(
                "Units that should run and that no replica holds, as the replicas tell.",
                "more than 0 for longer than a takeover, about 8 s after a kill.",
                f"{_CTL}; docs/alerts.md#unitwithoutowner.",
            ),
            [
                Query(
                    while_none(
                        'label_replace(max(replica_units_without_owner), "unit", "all", "", "")',
                        _KNOWN,
                        unit=_ONE,
                    ),
                    "{{unit}}",
                )
            ],
            "short",
            ratios=((1, RED),),
            gone="engine down",
        ),
    ),
    (
        6,
        lines(
            "Units of each replica",
            Help(
                "How many units each replica holds.",
                "two replicas differ by more than one for long, and none is drained.",
                f"{_CTL}; docs/replicas.md.",
            ),
            [Query(while_none("max by (instance) (replica_units)", _KNOWN, instance=_ONE), "{{instance}}")],
            "short",
            decimals=0,
        ),
    ),
    (
        6,
        lines(
            "Owner changes",
            Help(
                "How often each unit has come to another replica, since its first start.",
                "it rises though no replica comes or goes: a replica loses its place in the group again and again.",
                f"{_CTL}; the replicas' logs say why; docs/replicas.md.",
            ),
            [Query(while_none("max by (unit) (replica_owner_changes_total)", _KNOWN, unit=_ONE), "{{unit}}")],
            "short",
            decimals=0,
        ),
    ),
    (
        6,
        lines(
            "Last takeover",
            Help(
                "Of each unit's last change of owner, how long it ran nowhere; the last word of the former owner is up to 1 s old.",
                "more than about 8 s: the session of 6 s and the start of the unit.",
                "the log of the replica that took over says what the start waited for; docs/replicas.md.",
            ),
            [Query(while_none("max by (unit) (replica_takeover_seconds)", _KNOWN, unit=_ONE), "{{unit}}")],
            "s",
        ),
    ),
]
