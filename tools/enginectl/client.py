"""The replicas over HTTP: any of them answers for all.

Owns: Client, Replica, Status, Unit, urls_of.
Never: a decision; the replicas refuse what cannot be.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from engine.errors import ConfigurationError, StreamingError
from services.pipeline.control import Desired
from services.settings import Settings
from tools.stack.compose import project_of, settings_of
from tools.stack.engines import engines_of, page_port
from tools.stack.folder import Folder, read_json

_SECONDS: Final = 5.0
"""For one answer of one replica; a page of the same machine takes milliseconds."""


class Unit(msgspec.Struct, frozen=True):
    """A unit as the replicas tell of it."""

    unit: str
    job: str
    state: str
    owner: str | None = None
    since: int | None = None
    """When it came to its owner, milliseconds since the epoch."""
    restarts: int | None = None
    lag: int | None = None
    """Records of its topic that it has not read."""
    page: str = ""
    pid: int | None = None
    """Of its process, by the count of its replica's machine or container."""

    @property
    def process(self) -> tuple[str | None, int | None, int | None]:
        """What tells its process from any other: in containers pids come again."""
        return self.owner, self.since, self.pid


class Replica(msgspec.Struct, frozen=True):
    """A replica as it tells of itself."""

    name: str
    state: str
    ago_ms: int
    """How long ago it told this."""


class Status(msgspec.Struct, frozen=True):
    """How all of it stands."""

    name: str
    """Of the replica that answered."""
    replicas: tuple[Replica, ...]
    units: tuple[Unit, ...]
    state: str = ""
    generation: int | None = None
    """Of the group: each sharing out is one more."""
    desired: Desired = Desired()

    def of(self, name: str) -> tuple[Unit, ...]:
        """The units of a job, or the one of this name; none when it names a replica, or nothing.

        Example:
            >>> Status("engine-1", (), (Unit("totals-0", "totals", "running"),)).of("totals")[0].unit
            'totals-0'
        """
        return tuple(unit for unit in self.units if name in {unit.unit, unit.job})


def urls_of(settings: Settings) -> tuple[str, ...]:
    """Where the replicas of the settings' stack answer; a stack of plain processes that runs tells of itself.

    Raises:
        ConfigurationError: the stack has no replicas.
    """
    if settings.stack == "compose":
        settings = settings_of(project_of(settings), settings)
    else:
        theirs: dict[str, str] = read_json(Folder(settings.data_dir).settings) or {}
        known = {
            name: int(theirs[name.upper()]) for name in ("engines", "metrics_port") if name.upper() in theirs
        }
        settings = settings.model_copy(update=known)
    if settings.engines == 1:
        raise ConfigurationError(
            "the stack is one engine with all jobs (ENGINES=1) and has no replicas to control; "
            "start one with ENGINES=3 on a new DATA_DIR, or name a replica with --url"
        )
    return tuple(f"http://127.0.0.1:{page_port(settings, name)}" for name in engines_of(settings))


class Client:
    """Asks the replicas in turn until one answers, the one that answered last first.

    Args:
        urls: of the replicas' pages.
        seconds: how long to wait for one.

    Raises:
        ConfigurationError: an address is none.
    """

    def __init__(self, urls: Sequence[str], seconds: float = _SECONDS) -> None:
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ConfigurationError(
                    f"--url={url} is no address of a page; name one like http://127.0.0.1:19108"
                )
        self._urls = [url.rstrip("/") for url in urls]
        self._seconds = seconds
        # They are on this machine, or named: no proxy of the environment stands between.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answer(self) -> bytes:
        """What a replica tells, as it came.

        Raises:
            StreamingError: none answers.
        """
        return self._ask("/api/status")

    def status(self) -> Status:
        """What a replica tells.

        Raises:
            StreamingError: none answers, or not as a replica of this version.
        """
        answer = self.answer()
        try:
            return msgspec.json.decode(answer, type=Status)
        except msgspec.MsgspecError as error:
            raise StreamingError(
                f"{self._urls[0]} does not answer as a replica of this version does ({error}); "
                "use the scripts/enginectl of the version that runs"
            ) from error

    def send(self, message: dict[str, Any]) -> None:
        """Hand a command to a replica, which hands it to all; to send it twice does no harm.

        Raises:
            ConfigurationError: it was refused.
            StreamingError: none answers.
        """
        self._ask("/api/commands", json.dumps(message).encode())

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        faults = []
        for url in list(self._urls):
            request = urllib.request.Request(  # noqa: S310 - the constructor has seen that it is http
                url + path, data=body, headers={"Content-Type": "application/json"} if body else {}
            )
            try:
                with self._opener.open(request, timeout=self._seconds) as answer:
                    heard: bytes = answer.read()
            except urllib.error.HTTPError as error:
                faults.append(f"{url} ({_refusal(error)})")
            except (http.client.HTTPException, OSError) as error:
                faults.append(f"{url} ({_reason(error)})")
            else:
                self._urls.remove(url)
                self._urls.insert(0, url)
                return heard
        raise StreamingError(
            f"no replica answers at {', '.join(faults)}; start them with `scripts/stack up`, or name one with --url"
        )


def _refusal(error: urllib.error.HTTPError) -> str:
    """What a replica could not do; raises when it would not."""
    with error:
        text = error.read()
    if error.code == http.client.BAD_REQUEST:
        try:
            sentence = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            sentence = f"{error.url} refuses the command: {text[:200].decode(errors='replace')}"
        raise ConfigurationError(str(sentence))
    return f"HTTP {error.code}"


def _reason(error: http.client.HTTPException | OSError) -> str:
    """Why there was no answer, in a few words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause) or type(cause).__name__
