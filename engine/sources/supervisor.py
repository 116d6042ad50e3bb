"""What runs a receiver: starts, stops and restarts it, and makes blocks of the records that it stores.

Owns: ReceiverSupervisor, ReceiverSettings, Supervised.
Never: a batch, a name of a user's class.
"""

import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from engine.batch import ReceiverInfo
from engine.clock import Clock
from engine.errors import CheckpointWriteError, ConcurrentRunError, ConfigurationError, LifecycleError
from engine.scheduler.events import (
    StreamingListenerReceiverError,
    StreamingListenerReceiverStarted,
    StreamingListenerReceiverStopped,
)
from engine.sources.blocks import BlockLog
from engine.sources.elements import decode_element
from engine.sources.portions import (
    BESIDES_BYTES,
    BLOCK_BYTES,
    CHUNK_RECORDS,
    gathered,
    key_of,
    portions_of,
    refuse_large,
)

log = logging.getLogger(__name__)

RESTART_SECONDS = 2.0
_END_SECONDS = 10.0
"""How long a stop waits for a receiver that does not end."""

Tell = Callable[[str, object], None]
"""Told the name of a listener's method, and the event."""


class Supervised(Protocol):
    """What is run: a receiver."""

    def onStart(self) -> None:
        """Start to receive, and return."""

    def onStop(self) -> None:
        """End what `onStart` began."""


class ReceiverSettings(NamedTuple):
    """How the receivers of a context work."""

    block_interval: float = 0.2
    """How long single records wait for their block, seconds."""
    max_rate: float | None = None
    """Records a second that one receiver may store; None for no limit."""

    def validate(self) -> None:
        """Prove that they can be.

        Raises:
            ConfigurationError: one cannot.
        """
        if not isinstance(self.block_interval, int | float) or self.block_interval <= 0:
            raise ConfigurationError(f"blockInterval is {self.block_interval!r:.60}; give seconds above 0")
        rate = self.max_rate
        if rate is not None and (not isinstance(rate, int | float) or rate <= 0):
            raise ConfigurationError(f"receiverMaxRate is {rate!r:.60}; give a number above 0, or none")


class ReceiverSupervisor:
    """Runs one receiver: starts and stops it in a thread, and makes blocks of what it stores.

    Args:
        receiver: of the user.
        blocks: where blocks go.
        clock: what time it is.
        encode: bytes of a record.
        settings: how it works.
        info: what listeners are told first.
        tell: told of it.
    """

    def __init__(
        self,
        receiver: Supervised,
        blocks: BlockLog,
        clock: Clock,
        encode: Callable[[Any], bytes],
        settings: ReceiverSettings,
        info: ReceiverInfo,
        tell: Tell,
    ) -> None:
        self.info = info
        """The receiver as it is now."""
        self._receiver = receiver
        self._log = blocks
        self._clock = clock
        self._encode = encode
        self._settings = settings
        self._tell = tell
        self._lock = threading.RLock()
        """Of the buffer and the log, so that records keep their order."""
        self._buffer: list[bytes] = []
        self._buffer_bytes = 0
        self._key: bytes | None = None
        """The metadata of the records in the buffer."""
        self._free_at = 0.0
        """When the rate allows the next record, in seconds of the monotonic clock."""
        self.rate = settings.max_rate
        """Records a second that may be stored now; None for no limit."""
        self._is_closed = False
        self.is_started = False
        """Whether the receiver is to receive."""
        self._begun = threading.Event()
        """The first `onStart` has returned."""
        self._ending = threading.Event()
        """The receiver stops for good."""
        self._asked = threading.Event()
        """A restart or the end was asked for."""
        self._restart_delay = RESTART_SECONDS
        self._control = threading.Thread(target=self._run, name=f"receiver-{info.streamId}", daemon=True)
        self._cutter = threading.Thread(target=self._cut_blocks, name=f"blocks-{info.streamId}", daemon=True)

    # Life, in the control thread.

    def start(self) -> None:
        """Start the receiver, and wait until its `onStart` has returned."""
        self._cutter.start()
        self._control.start()
        if not self._begun.wait(_END_SECONDS):
            log.warning(
                "receiver %s: onStart has not returned; what waits belongs into a thread", self.info.name
            )

    def _begin(self) -> None:
        """Call onStart; a receiver that cannot start is started again after the delay, as Spark's tracker does."""
        self.is_started = True
        self.info = replace(self.info, active=True, location=socket.gethostname(), executorId="driver")
        self._tell("onReceiverStarted", StreamingListenerReceiverStarted(self.info))
        try:
            self._receiver.onStart()
        except Exception as error:  # noqa: BLE001  the user's code may raise anything; listeners are told
            self.restart(f"Error starting receiver {self.info.streamId}", error, RESTART_SECONDS)

    def _end(self) -> None:
        self.is_started = False
        try:
            self._receiver.onStop()
        except Exception as error:  # noqa: BLE001  as above
            self.report(f"Error stopping receiver {self.info.streamId}", error)

    def _run(self) -> None:
        self._begin()
        self._begun.set()
        while True:
            self._asked.wait()
            self._asked.clear()
            self._end()
            if self._ending.is_set() or self._clock.wait(self._ending, self._restart_delay):
                break
            self._begin()
        self.info = replace(self.info, active=False, location="", executorId="")
        self._tell("onReceiverStopped", StreamingListenerReceiverStopped(self.info))

    def restart(self, message: str, error: BaseException | None, delay: float) -> None:
        """Ask for a restart; one that is under way already is enough."""
        with self._lock:
            if not self.is_started or self._ending.is_set():
                return
            self.is_started = False
        self.report(f"Restarting receiver with delay {round(delay * 1_000)} ms: {message}", error)
        self._restart_delay = delay
        self._asked.set()

    def stop(self, message: str = "", error: BaseException | None = None) -> None:
        """Ask for the end."""
        self.is_started = False
        if message:
            self._note(message, error)
        if error is not None:
            self._tell("onReceiverError", StreamingListenerReceiverError(self.info))
        self._ending.set()
        self._asked.set()

    def end(self) -> None:
        """Stop the receiver, wait for it, and make a block of what is left."""
        self.stop()
        for thread in (self._control, self._cutter):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(_END_SECONDS)
        with self._lock:
            try:
                self.flush()
            except (
                CheckpointWriteError,
                ConcurrentRunError,
            ):  # the stop goes on; the receiver was told of none of these records that it is durable
                lost = len(self._buffer)
                log.exception("receiver %s: %d single records are lost", self.info.name, lost)
            self._is_closed = True

    def report(self, message: str, error: BaseException | None) -> None:
        """Tell of an error."""
        self._note(message, error)
        self._tell("onReceiverError", StreamingListenerReceiverError(self.info))

    def _note(self, message: str, error: BaseException | None) -> None:
        log.warning(
            "receiver %s: %s%s",
            self.info.name,
            message,
            f": {type(error).__name__}: {error}" if error else "",
        )
        text = "" if error is None else "".join(traceback.format_exception(error))
        now = self._clock.wall_ms()
        self.info = replace(self.info, lastErrorMessage=message, lastError=text, lastErrorTime=now)

    # Records, from any thread.

    def store(self, item: Any, metadata: Any) -> None:
        """Store one record or many."""
        if isinstance(item, list):
            self._store_block(list(map(self._encode, item)), key_of(metadata))
        elif isinstance(item, Iterator):
            self._store_iterator(item, key_of(metadata))
        elif isinstance(item, bytes | bytearray | memoryview):
            self._store_block([self._encode(bytes(item))], key_of(metadata))
        else:
            self.store_one(item, metadata)

    def store_one(self, item: Any, metadata: Any = None) -> None:
        """Store one record, whatever its type, with the next block."""
        data, key = self._encode(item), key_of(metadata)
        size = len(data) + BESIDES_BYTES
        if size > BLOCK_BYTES:
            refuse_large(len(data))
        if self.rate is not None:
            self._wait_for_rate(1)
        with self._lock:
            self._refuse_closed()
            # BEFORE the record is there: what the volume refuses now is not stored, and may be stored again.
            if self._buffer_bytes + size > BLOCK_BYTES or len(self._buffer) >= CHUNK_RECORDS:
                self.flush()
            self._buffer.append(data)
            self._buffer_bytes += size
            if key is not None:
                self._key = key

    def _store_iterator(self, items: Iterator[Any], key: bytes | None) -> None:
        """Store portions; one is held back, as the last one has the metadata."""
        held: list[bytes] = []
        for portion in gathered(map(self._encode, items)):
            if key is None:
                self._store_block(portion, None)
                continue
            if held:
                self._store_block(held, key, more=True)
            held = portion
        self._store_block(held, key)

    def _store_block(self, values: list[bytes], key: bytes | None, *, more: bool = False) -> None:
        """Store many records, after what came before; where more follow, the key is for what comes last."""
        refuse_large(max(map(len, values), default=0))
        self._wait_for_rate(len(values))
        with self._lock:
            self._refuse_closed()
            self.flush()
            portions = portions_of(values)
            # A portion that is not the last keeps what was known, so that `lastMetadata` never tells of what is not there whole.
            known = None if key is None or (len(portions) < 2 and not more) else self._log.last_key()
            for number, portion in enumerate(portions, 1):
                self._log.append(portion, known if more or number < len(portions) else key)

    def limit_to(self, rate: float) -> None:
        """Store at most so many records a second, and never more than the settings allow."""
        most = self._settings.max_rate
        self.rate = rate if most is None else min(rate, most)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise LifecycleError("the context of this receiver has stopped; nothing was stored")

    def _wait_for_rate(self, records: int) -> None:
        """Wait until the rate allows so many records; the end of the receiver ends the wait."""
        rate = self.rate
        if rate is None:
            return
        with self._lock:
            now = self._clock.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + records / rate
        if begin > now:
            self._clock.wait(self._ending, begin - now)

    def flush(self) -> None:
        """Make a block of the single records; on an error they wait for the next try."""
        with self._lock:
            if self._buffer and not self._is_closed:
                self._log.append(self._buffer, self._key)
                self._buffer, self._buffer_bytes, self._key = [], 0, None

    def last_metadata(self) -> Any:
        """The metadata of the last durable block."""
        with self._lock:
            key = self._log.last_key()
        return None if key is None else decode_element(key)

    def _cut_blocks(self) -> None:
        while not self._clock.wait(self._ending, self._settings.block_interval):
            try:
                self.flush()
            except (
                CheckpointWriteError,
                ConcurrentRunError,
            ) as error:  # the next batch's plan tries again, and ends the stream if need be
                log.warning("receiver %s: a block waits: %s", self.info.name, error)
            except Exception as error:  # noqa: BLE001  as above; without this thread no more blocks would be made, in silence
                self.report("Error making a block", error)
