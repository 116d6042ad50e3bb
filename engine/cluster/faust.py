"""Membership by a Faust app: the partitions of a small topic stand for the units, and Kafka's group says who holds which.

Every change goes through two calls of the holder. Kafka waits for `release` before it gives the units out anew, and `hold` says what
came of it. On the way out `release` comes before the group hears of it, so that the others find everything durable.

    topic of units      no records; a partition is a unit
    topic of commands   one replica of the group handles each command, at least once: after a crash perhaps again, by another

Owns: Sticky, FaustMembership.
Never: data; a unit's work; the truth of who may write, which the epochs of the checkpoint folders hold.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import aiokafka.admin
import faust
import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError
from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP, AppT, StreamT

from engine.checkpoint.files import make_folder
from engine.clock import SystemClock
from engine.cluster.membership import Holder
from engine.cluster.sharing import share
from engine.errors import ConfigurationError, StreamingError

log = logging.getLogger(__name__)

SESSION_SECONDS: Final = 6.0
"""After so long without a heartbeat a member is dead to the group; no broker takes less by default."""
HEARTBEAT_SECONDS: Final = 0.5
"""How often a member says that it lives, and hears that another has come or gone."""
REBALANCE_SECONDS: Final = 20.0
"""How long the group waits for its slowest member before it goes on without it."""
REQUEST_SECONDS: Final = 40.0
"""A wait for the group is one request, so this is longer."""
RELEASE_SECONDS: Final = 8.0
"""How long units are waited for before the group goes on; far below REBALANCE_SECONDS, which would cost the membership."""
LEAVE_SECONDS: Final = 5.0
"""How long a member whose units are released waits to leave: a broker that is away may never answer, and finds out by itself."""
ANSWER_SECONDS: Final = 10.0
"""How long a broker has to answer at the start."""
QUIET_SECONDS: Final = 10.0
"""How long a client of Kafka does not repeat itself in the log."""
# The client is only half annotated: its calls are made through this name.
_admin: Final[Any] = aiokafka.admin
_LIBRARIES: Final = ("aiokafka", "faust", "mode")


class _Claims(msgspec.Struct):
    """What a member tells the group when it joins."""

    url: str
    generation: int
    """The sharing in which it was given what it claims."""
    units: dict[str, list[int]]
    """By topic the partitions that it holds, the longest held first."""
    since: dict[str, list[int]] = {}
    """By topic the sharing in which each of them came."""


class Sticky(PartitionAssignor):
    """Faust's assignor with `engine.cluster.sharing.share` in place of its own choice, which leaves the third of three members without a unit.

    1. Of two members that claim a unit the one with the newer sharing is believed: who slept through one has lost what it held.
    2. A member tells what it holds and no more. Faust's assignor tells each what all others hold, for its tables, which are not used.

    Args:
        app: the app whose partitions are shared.
        replicas: of tables; there are none.
    """

    def __init__(self, app: AppT, replicas: int = 0) -> None:
        del replicas
        super().__init__(app, replicas=0)
        self._forgotten: frozenset[int] = frozenset()
        self._since: dict[str, dict[int, int | None]] = {}
        """By topic and unit the sharing in which it came; None for the newest, whose number the app hears later."""

    def forget(self, units: Collection[int]) -> None:
        """Claim none of these, whatever topic they are of, until the next assignment."""
        self._forgotten = frozenset(units)

    # Kafka's base has class methods here, and Faust's has not.
    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:  # type: ignore[override]
        """What this member tells the group when it joins."""
        claims = {
            topic: [unit for unit in units if unit not in self._forgotten]
            for topic, units in self._assignment.actives.items()
        }
        generation = self.app.consumer_generation_id
        self._since = {
            topic: {unit: generation if number is None else number for unit, number in came.items()}
            for topic, came in self._since.items()
        }
        since = {
            topic: [self._since.get(topic, {}).get(unit) or generation for unit in units]
            for topic, units in claims.items()
        }
        told = _Claims(str(self._url), generation, claims, since)
        return ConsumerProtocolMemberMetadata(self.version, sorted(topics), msgspec.json.encode(told))

    def on_assignment(self, assignment: Any) -> None:  # type: ignore[override]
        """Take in what the group has given this member."""
        super().on_assignment(assignment)
        self._since = {
            topic: {unit: self._since.get(topic, {}).get(unit) for unit in units}
            for topic, units in self._assignment.actives.items()
        }
        self._forgotten = frozenset()

    def _perform_assignment(
        self, cluster: Any, member_metadata: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> MutableMapping[str, ConsumerProtocolMemberAssignment]:
        """Share out each topic among the members that read it."""
        told = {
            member: msgspec.json.decode(metadata.user_data, type=_Claims)
            for member, metadata in member_metadata.items()
        }
        believed_first = sorted(told, key=lambda member: (-told[member].generation, member))
        topics = sorted({topic for metadata in member_metadata.values() for topic in metadata.subscription})
        assigned = {member: ClientAssignment(actives={}, standbys={}) for member in believed_first}
        for topic in topics:
            readers = [member for member in believed_first if topic in member_metadata[member].subscription]
            claims = {member: told[member].units.get(topic, []) for member in readers}
            since = {
                member: dict(zip(claims[member], told[member].since.get(topic, ()), strict=False))
                for member in readers
            }
            for member, units in share(cluster.partitions_for_topic(topic) or (), claims, since).items():
                assigned[member].actives[topic] = list(units)
        self._member_urls = {member: each.url for member, each in told.items()}
        groups = {topic: group for group, topic in enumerate(topics)}
        return self._protocol_assignments(assigned, {}, {}, groups)

    @property
    def name(self) -> str:
        """Of the protocol; members with another cannot be in one group."""
        return "dstreams-sticky"


class FaustMembership:
    """A process's place in a Kafka group, held by a Faust app in the caller's event loop.

    1. `hold` is never called while a `release` is awaited, unless that takes longer than RELEASE_SECONDS.
    2. A broker that goes away later ends nothing: what is held stays so, and the app joins again as soon as it can.

    Args:
        bootstrap: "HOST:PORT" of a broker.
        group: name of the group, which is the app's.
        topic: whose partitions stand for the units.
        units: how many there are.
        control_topic: of commands.
        folder: where Faust may keep files of its own; it keeps none.
        name: of the replica, for Kafka's own tools.
        on_command: is given each command that falls to this replica.

    Example:
        >>> membership = FaustMembership(
        ...     bootstrap="127.0.0.1:9092",
        ...     group="app-replicas",
        ...     topic="engine-units",
        ...     units=4,
        ...     control_topic="engine-control",
        ...     folder=Path("faust"),
        ... )
        >>> membership.is_member
        False
    """

    def __init__(
        self,
        *,
        bootstrap: str,
        group: str,
        topic: str,
        units: int,
        control_topic: str,
        folder: Path,
        name: str = "replica",
        on_command: Callable[[dict[str, Any]], Awaitable[None] | None] | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topic = topic
        self._units = units
        self._control_topic = control_topic
        self._folder = folder
        self._name = name
        self._on_command = on_command
        self._app: faust.App | None = None
        self._control: Any = None
        self._holder: Holder | None = None
        self._held: frozenset[int] = frozenset()
        self._is_member = False
        self._leave_limit: asyncio.Timeout | None = None
        self._quiet = _Quiet()

    @property
    def generation(self) -> int:
        """Number of the sharing that this process last took part in; for the log, since it may begin anew with the broker's data."""
        return 0 if self._app is None else self._app.consumer_generation_id

    @property
    def is_member(self) -> bool:
        """Whether the group has given this process its share, and no new sharing is under way."""
        return self._is_member and self.failure is None

    @property
    def failure(self) -> BaseException | None:
        """What ended the membership, an error of the holder say; None while it goes on. A process that finds one should end."""
        return None if self._app is None else self._app.crash_reason

    async def start(self, holder: Holder) -> None:
        """Join; returns when the group has given this process its share, which may be none.

        Raises:
            ConfigurationError: a topic is missing, or has not one partition for each unit.
            StreamingError: the broker does not answer, or the group cannot be joined.
        """
        self._quiet.begin()
        try:
            await self._check_topics()
            make_folder(self._folder)
            self._holder = holder
            self._app = self._made_app()
            try:
                await self._app.start()
                if self._app.crash_reason is not None:
                    raise self._app.crash_reason
            except KafkaError as error:
                raise StreamingError(
                    f"the group {self._group!r} of Kafka at {self._bootstrap} cannot be joined ({error}); "
                    "see the broker's log, then start again"
                ) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Have every unit released, then leave, so that the others take over at once."""
        app, self._app = self._app, None
        try:
            if app is not None:
                async with asyncio.timeout(RELEASE_SECONDS + LEAVE_SECONDS) as self._leave_limit:
                    await app.stop()
        except TimeoutError:
            # A service that is cancelled while it stops may also return as if all were well.
            log.debug("Faust did not stop by itself")
        finally:
            if self._leave_limit is not None and self._leave_limit.expired():
                log.warning(
                    "the group %s was not left in time; it notices when the session is over", self._group
                )
            self._is_member, self._held, self._leave_limit = False, frozenset(), None
            self._quiet.end()
            if app is not None and self._holder is not None:
                self._holder.hold(frozenset())

    async def send_command(self, command: dict[str, Any]) -> None:
        """Have one replica of the group handle this; returns when Kafka has it.

        Raises:
            StreamingError: this process has not joined.
        """
        if self._control is None:
            raise StreamingError("a command is sent by a member of the group; call start() first")
        await (await self._control.send(value=msgspec.json.encode(command)))

    # The app.

    def _made_app(self) -> faust.App:
        app = faust.App(
            self._group,
            broker=f"kafka://{self._bootstrap}",
            broker_client_id=self._name,
            broker_session_timeout=SESSION_SECONDS,
            broker_heartbeat_interval=HEARTBEAT_SECONDS,
            broker_rebalance_timeout=REBALANCE_SECONDS,
            broker_request_timeout=REQUEST_SECONDS,
            # What is not 0 makes Faust use an assignor of its own kind at all.
            table_standby_replicas=1,
            PartitionAssignor=Sticky,
            topic_disable_leader=True,
            topic_allow_declare=False,
            stream_wait_empty=False,
            web_enabled=False,
            autodiscover=False,
            datadir=self._folder,
            worker_redirect_stdouts=False,
        )
        units = app.topic(self._topic, acks=False, value_type=bytes, value_serializer="raw")
        self._control = app.topic(self._control_topic, value_type=bytes, value_serializer="raw")
        app.agent(units, name="units")(_read_nothing)
        app.agent(self._control, name="control")(self._handle_commands)
        signals: Any = app
        signals.on_partitions_revoked.connect(self._revoked)
        signals.on_partitions_assigned.connect(self._assigned)
        signals.on_before_shutdown.connect(self._leaving)
        return app

    async def _check_topics(self) -> None:
        """See that the broker answers, and that the topics are as they should be."""
        client = _admin.AIOKafkaAdminClient(
            bootstrap_servers=self._bootstrap, request_timeout_ms=int(ANSWER_SECONDS * 1_000)
        )
        wanted = {self._topic: self._units, self._control_topic: 1}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.start()
                described = await client.describe_topics(list(wanted))
        except (KafkaError, OSError, TimeoutError) as error:
            raise StreamingError(
                f"no answer from Kafka at {self._bootstrap} within {ANSWER_SECONDS:g} s ({type(error).__name__}); "
                "start it or set KAFKA_BOOTSTRAP"
            ) from error
        finally:
            # A client that never came up raises here, as it has nothing to close.
            with contextlib.suppress(KafkaError):
                await client.close()
        found = {topic["topic"]: len(topic["partitions"]) for topic in described}
        for topic, partitions in wanted.items():
            if found.get(topic, 0) != partitions:
                raise ConfigurationError(
                    f"topic {topic!r} of Kafka at {self._bootstrap} has {found.get(topic, 0)} partitions and needs "
                    f"{partitions}; delete it while no replica runs, and run services.topics again"
                )

    # What the group says.

    async def _revoked(self, app: faust.App, _tps: set[TP], **_: Any) -> None:
        """The group shares out anew, as soon as this returns."""
        self._is_member = False
        await self._release()
        if self._holder is not None and isinstance(app.assignor, Sticky):
            app.assignor.forget(self._holder.lost())

    async def _assigned(self, _app: faust.App, tps: set[TP], **_: Any) -> None:
        """This is what came of it. No heartbeat goes out meanwhile, so nothing is waited for."""
        self._held = frozenset(tp.partition for tp in tps if tp.topic == self._topic)
        self._is_member = True
        if self._holder is not None:
            self._holder.hold(self._held)

    async def _leaving(self, _app: faust.App, **_: Any) -> None:
        """The group hears that this member leaves, as soon as this returns."""
        self._is_member = False
        await self._release()
        if self._leave_limit is not None and not self._leave_limit.expired():
            self._leave_limit.reschedule(asyncio.get_running_loop().time() + LEAVE_SECONDS)

    async def _release(self) -> None:
        if self._holder is None or not self._held:
            return
        try:
            await asyncio.wait_for(self._holder.release(), RELEASE_SECONDS)
        except TimeoutError:
            log.warning("units were not released within %g s and are no longer waited for", RELEASE_SECONDS)

    async def _handle_commands(self, commands: StreamT[bytes]) -> None:
        async for raw in commands:
            try:
                command = msgspec.json.decode(raw, type=dict[str, Any])
            except msgspec.MsgspecError as error:
                log.warning(
                    "a command in topic %s is no JSON object (%s) and is left out", self._control_topic, error
                )
                continue
            if self._on_command is not None:
                handled = self._on_command(command)
                if inspect.isawaitable(handled):
                    await handled


async def _read_nothing(units: StreamT[bytes]) -> None:
    """The topic of units is read for its partitions only."""
    async for _ in units:
        log.debug("a record in the topic of units is left out")


class _Quiet(logging.Filter):
    """Keeps Kafka's clients from repeating themselves many times a second while the broker is away; nothing else of logging is touched."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = SystemClock()
        self._told: dict[tuple[str, str], float] = {}
        self._loggers: list[logging.Logger] = []

    def begin(self) -> None:
        """Listen in on what the libraries log."""
        # A filter is not inherited: each logger needs it.
        self._loggers = [
            logging.getLogger(name)
            for name in list(logging.root.manager.loggerDict)
            if name.partition(".")[0] in _LIBRARIES
        ]
        for logger in self._loggers:
            logger.addFilter(self)

    def end(self) -> None:
        """Let everything through again."""
        for logger in self._loggers:
            logger.removeFilter(self)
        self._loggers = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is worth a line: a warning, and not the same as one of the last QUIET_SECONDS."""
        if record.levelno < logging.WARNING:
            return False
        now, key = self._clock.monotonic(), (record.name, str(record.msg))
        if now - self._told.get(key, float("-inf")) < QUIET_SECONDS:
            return False
        self._told[key] = now
        return True
