"""Calls of a store that a test watches: in threads of their own, and request by request."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from cassandra.query import BatchStatement

from engine.sinks import cassandra as module
from engine.sinks.cassandra import CassandraSink
from tests.engine.sinks.stores import TOTALS

DEADLINE_SECONDS = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after a minute."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        threading.Event().wait(0.02)


class Call:
    """A call in a thread of its own."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self.error = error

    def is_done(self) -> bool:
        """Whether the call has returned or raised."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait until the call returns, and raise what it raised."""
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the call never returned"
        if self.error:
            raise self.error


def connected(store: CassandraSink) -> Any:
    """The store's session in this process."""
    return module._connected[os.getpid(), store]


class Traffic:
    """Every request that a store's session sends."""

    def __init__(self, store: CassandraSink) -> None:
        self.requests: list[Any] = []
        self.flying = 0
        self.most_flying = 0
        self._lock = threading.Lock()
        store.check(TOTALS)
        connected(store).session.add_request_init_listener(self._sent)

    def _sent(self, future: Any) -> None:
        with self._lock:
            self.requests.append(future)
            self.flying += 1
            self.most_flying = max(self.most_flying, self.flying)
        future.add_callbacks(self._answered, self._answered)

    def _answered(self, _: object) -> None:
        with self._lock:
            self.flying -= 1

    def batches(self) -> list[Any]:
        """The requests that are batches."""
        return [future for future in self.requests if isinstance(future.query, BatchStatement)]


def lines(caplog: pytest.LogCaptureFixture, word: str) -> list[logging.LogRecord]:
    """The lines of the log with the word."""
    return [record for record in caplog.records if word in record.getMessage()]
