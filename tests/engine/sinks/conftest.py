"""The fixtures of these tests."""

from tests.engine.sinks.stores import cassandra_world, sqlite_world

__all__ = ["cassandra_world", "sqlite_world"]
