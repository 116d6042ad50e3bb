"""All boards.

Owns: BOARDS, FOLDER, documents.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from grafana import engine, kafka_cassandra, overview, recovery_drill
from grafana.board import document

BOARDS: Final = {
    "overview.json": overview.BOARD,
    "engine.json": engine.BOARD,
    "kafka-cassandra.json": kafka_cassandra.BOARD,
    "recovery-drill.json": recovery_drill.BOARD,
}
"""By name of the file the board."""

FOLDER: Final = Path(__file__).parent / "dashboards"


def documents() -> Mapping[str, str]:
    """By name of the file what it holds."""
    return {name: document(board) for name, board in BOARDS.items()}
