"""Every setting of the services, read once from the environment and typed from then on.

Owns: Settings, load_settings, misspelt, compose_project, base_environment, exit_code.
Never: a setting that is read anywhere else; no other module looks at the environment.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from engine.errors import CheckpointError, ConfigurationError, SourceError, StreamingError, UserFunctionError

REPOSITORY = Path(__file__).resolve().parents[1]
"""The folder that relative paths in settings start from."""

JOB_NAMES = ("campaign_windows", "trending_pages", "page_totals")
"""Every job that JOBS may name."""

REFUSED = 2
"""Exit code of a process whose settings, topics, schema or checkpoint folder are not as it needs them: starting it again
changes nothing."""

_LEAST_NAME, _LIKENESS = 6, 0.9
"""A name of another program's is seldom so long and so like one of ours."""

_BASE_VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME"),
    *("SPARK_HOME", "SPARK_CONF_DIR", "SPARK_LOCAL_IP", "PYSPARK_PYTHON"),
)


def _absolute(path: Path) -> Path:
    """The path as seen from the repository, so that every process finds the same folder."""
    return REPOSITORY / path.expanduser()


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _known_jobs(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in JOB_NAMES]
    if unknown:
        raise ValueError(f"there is no job {unknown[0]!r}; choose from {', '.join(JOB_NAMES)}")
    if len(set(names)) < len(names) or not names:
        raise ValueError(
            f"it must name at least one job and each only once; choose from {', '.join(JOB_NAMES)}"
        )
    return names


def _unless_none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in {"", "none"} else value


def _whole_milliseconds(seconds: float) -> float:
    if abs(seconds * 1_000 - round(seconds * 1_000)) > 1e-6:
        raise ValueError("it must be a whole number of milliseconds; round it to three digits")
    return seconds


def _matching(pattern: str, remedy: str) -> AfterValidator:
    """A check that the whole text matches, which names the remedy when it does not."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(remedy)
        return text

    return AfterValidator(check)


Port = Annotated[int, Field(ge=1, le=65_535)]
Folder = Annotated[Path, AfterValidator(_absolute)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


MOST_CONTAINERS = 5
"""Engines that docker-compose.yml has."""


class Settings(BaseSettings):
    """What the processes of a stack need to know; the variable of a field has its name in capitals.

    1. All ports differ. 2. All paths are absolute. 3. A variable set to nothing counts as not set.
    4. Made by hand, it does not look at the environment; only `load_settings` does.

    Example:
        >>> Settings(kafka_port=9092).kafka_bootstrap
        '127.0.0.1:9092'
    """

    model_config = SettingsConfigDict(
        frozen=True,
        case_sensitive=True,
        env_ignore_empty=True,
        alias_generator=str.upper,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
    )

    stack: Literal["processes", "embedded", "compose"] = "processes"
    """Real servers as plain processes, the log on disk and SQLite, or real servers in containers."""
    data_dir: Folder = Field(default=Path(".stack"), validate_default=True)
    """Everything that the stack keeps; relative to the repository."""
    jars_dir: Folder = Field(default=Path(".stack/jars"), validate_default=True)
    """The servers' jars; several stacks may share them."""
    kafka_port: Port = 19_092
    kafka_controller_port: Port = 19_093
    cassandra_port: Port = 19_042
    cassandra_storage_port: Port = 17_000
    cassandra_jmx_port: Port = 17_199
    kafka_bootstrap: Annotated[
        str, _matching(r"[^\s,:]+:\d+(,[^\s,:]+:\d+)*", "it must be HOST:PORT, several with commas between")
    ] = Field(default_factory=lambda known: f"127.0.0.1:{known.get('kafka_port')}")
    """Where clients find Kafka; 127.0.0.1 and kafka_port when not given."""
    cassandra_hosts: Annotated[Names, Field(min_length=1)] = ("127.0.0.1",)
    keyspace: Annotated[
        str,
        _matching(
            r"[a-z][a-z0-9_]{0,47}", "it must be lower case letters, digits and underscores, a letter first"
        ),
    ] = "pipeline"
    app: Annotated[
        str,
        _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", "it must be letters, digits, underscores and hyphens"),
    ] = "pipeline"
    """Name of the application and of its checkpoint folder."""
    jobs: Annotated[Names, AfterValidator(_known_jobs)] = JOB_NAMES
    master: Annotated[
        str,
        _matching(
            r"local(\[([1-9]\d*|\*)\])?|spark://[^\s,:/]+:\d+(,[^\s,:/]+:\d+)*",
            "it must be local, local[N], local[*] or spark://HOST:PORT",
        ),
    ] = "local[2]"
    """What computes the jobs: this process, N processes of this machine, or a Spark cluster; the checkpoints, and with the
    embedded stack the log and the tables, must then be on a volume that its workers share."""
    engines: Annotated[int, Field(ge=1, le=10)] = 1
    """Replicas of the engine that share the jobs and take over from each other; 1 is one process with all jobs."""
    replica: Annotated[
        Annotated[
            str,
            _matching(
                r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "it must be letters, digits, dots, underscores, hyphens"
            ),
        ]
        | None,
        BeforeValidator(_unless_none),
    ] = None
    """Name of this replica, which no other has. None for that of the machine, or of the container."""
    batch_seconds: Annotated[float, Field(gt=0, le=3_600), AfterValidator(_whole_milliseconds)] = 1.0
    checkpoint_dir: Folder = Field(
        default_factory=lambda known: Path(known.get("data_dir", ".stack")) / "checkpoints",
        validate_default=True,
    )
    """data_dir/checkpoints when not given."""
    max_rate_per_partition: Annotated[int, Field(ge=1)] = 20_000
    """Records per second and partition."""
    backpressure: bool = False
    """Whether inputs are held back to what batches get done in an interval, below max_rate_per_partition."""
    initial_rate: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_unless_none)
    ] = None
    """Records per second of each input before backpressure has its first estimate. None for max_rate_per_partition."""
    task_timeout: Annotated[
        Annotated[float, Field(gt=0, le=86_400)] | None, BeforeValidator(_unless_none)
    ] = None
    """Seconds for each task that an executor has in a stage, those aside in which it waits for Kafka or the store; after that it is
    ended and the engine stops. None for no limit."""
    listen_host: Annotated[
        str, _matching(r"[A-Za-z0-9.:-]+", "it must be an address of this machine, 127.0.0.1 or 0.0.0.0")
    ] = "127.0.0.1"
    """Where metrics and pages are served; 0.0.0.0 inside a container, whose ports the host keeps on loopback."""
    metrics_port: Port = 19_108
    """The engine's streaming page, its API and its metrics."""
    producer_metrics_port: Port = 19_109
    verifier_metrics_port: Port = 19_110
    kafka_metrics_port: Port = 19_111
    """Kafka's own metrics, by the JMX exporter."""
    cassandra_metrics_port: Port = 19_112
    """Cassandra's own metrics, by the JMX exporter."""
    prometheus_port: Port = 19_090
    monitoring: bool = False
    """Whether Prometheus, the verifier and the servers' own metrics are part of the stack."""
    verify_seconds: Annotated[float, Field(gt=0, le=86_400)] = 15.0
    """Least time between two runs of the verifier."""
    ad_rate: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000
    """Ad events per second over all partitions."""
    page_rate: Annotated[int, Field(ge=1, le=10_000_000)] = 500
    """Page views per second over all partitions."""
    seed: Annotated[int, Field(ge=0)] = 1
    ad_partitions: Annotated[int, Field(ge=1, le=1_000)] = 4
    page_partitions: Annotated[int, Field(ge=1, le=1_000)] = 2

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's, here and below
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments alone."""
        return (init_settings,)

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        seen: dict[int, str] = {}
        for name, value in self:
            if name.endswith("_port") and seen.setdefault(value, name) != name:
                raise ConfigurationError(
                    f"{name.upper()}={value} is also {seen[value].upper()}; give each its own port"
                )
        return self

    @model_validator(mode="after")
    def _tasks_can_be_ended(self) -> Self:
        if self.task_timeout is not None and not self.master.startswith("local["):
            raise ConfigurationError(
                f"TASK_TIMEOUT={self.task_timeout:g} needs executors of ours and MASTER={self.master} has none; "
                "set MASTER=local[N], or TASK_TIMEOUT=none"
            )
        return self

    @model_validator(mode="after")
    def _replicas_can_share(self) -> Self:
        if self.engines > 1 and self.stack == "embedded":
            raise ConfigurationError(
                f"ENGINES={self.engines} needs Kafka, by which the replicas share the jobs, and STACK=embedded has none; "
                "set STACK=processes, or ENGINES=1"
            )
        if self.engines > MOST_CONTAINERS and self.stack == "compose":
            raise ConfigurationError(
                f"ENGINES={self.engines} is not valid in containers: docker-compose.yml has up to {MOST_CONTAINERS}; "
                "use fewer, or plain processes by STACK=processes"
            )
        if self.engines > 1 and self.is_on_spark:
            raise ConfigurationError(
                f"ENGINES={self.engines} shares the jobs out to replicas and MASTER={self.master} to a cluster; "
                "set MASTER=local[N], or ENGINES=1"
            )
        return self

    @model_validator(mode="after")
    def _rate_has_its_use(self) -> Self:
        if self.initial_rate is not None and not self.backpressure:
            raise ConfigurationError(
                f"INITIAL_RATE={self.initial_rate:g} is where backpressure begins and BACKPRESSURE is off; "
                "set BACKPRESSURE=true, or INITIAL_RATE=none"
            )
        return self

    @property
    def log_dir(self) -> Path:
        """Folder of the embedded log."""
        return self.data_dir / "log"

    @property
    def results_path(self) -> Path:
        """The embedded results store."""
        return self.data_dir / "results.sqlite3"

    @property
    def is_on_spark(self) -> bool:
        """Whether a Spark cluster computes the jobs."""
        return self.master.startswith("spark://")

    def environment(self) -> dict[str, str]:
        """Every setting as the variable that gives it, for a child process.

        Example:
            >>> Settings(jobs=("page_totals",)).environment()["JOBS"]
            'page_totals'
        """
        return {name.upper(): _text(value) for name, value in self}


def _text(value: object) -> str:
    """A setting's value as its variable has it."""
    if value is None:
        return "none"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def load_settings() -> Settings:
    """The settings that the environment gives, with the defaults for the rest.

    In a container HOST_VARIABLES names the variables of the host, whose misspelt ones are pointed out too.

    Raises:
        ConfigurationError: a value is unknown or malformed; one sentence with variable, value and remedy.
    """
    for variable, meant in misspelt([*os.environ, *os.environ.get("HOST_VARIABLES", "").split()]):
        print(f"{variable} is not a setting and is ignored; did you mean {meant}?", file=sys.stderr)  # noqa: T201 - for the person at the command line
    try:
        return Settings.model_validate(EnvSettingsSource(Settings, case_sensitive=True)())
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from None


def misspelt(names: Iterable[str], also: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Names that look like a setting's variable and are none, each with the variable that it looks like.

    Args:
        names: to look at.
        also: variables beside the settings.

    Example:
        >>> misspelt(["METRICS_PORT", "METRIC_PORT", "Batch_Seconds", "PATH"])
        [('METRIC_PORT', 'METRICS_PORT'), ('Batch_Seconds', 'BATCH_SECONDS')]
    """
    known = [*(name.upper() for name in Settings.model_fields), *also]
    found = []
    for name in names:
        if name not in known and len(name) >= _LEAST_NAME:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_LIKENESS)
            found += [(name, variable) for variable in near]
    return found


def compose_project() -> str:
    """The name of the stack of containers: COMPOSE_PROJECT_NAME, as compose has it, else that of docker-compose.yml."""
    return os.environ.get("COMPOSE_PROJECT_NAME") or "dstreams"


def base_environment() -> dict[str, str]:
    """What a child process keeps of the caller's environment: how to find programs, folders and the language."""
    return {name: os.environ[name] for name in _BASE_VARIABLES if name in os.environ}


def exit_code(main: Callable[[], int | None]) -> int:
    """The exit code of a command line main: its own (None is 0), 2 when refused, 1 on any other error of the engine.

    A refusal is a wrong setting, topic, schema or checkpoint folder. It goes to standard error as one sentence; so does an
    error of the engine, after the user's own traceback where there is one.

    Example:
        >>> exit_code(lambda: None)
        0
    """
    try:
        return main() or 0
    except (ConfigurationError, CheckpointError, SourceError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the sentence is for the person at the command line
        return REFUSED
    except UserFunctionError as error:
        print(error.user_traceback, error, sep="\n", file=sys.stderr)  # noqa: T201 - see above
        return 1
    except StreamingError as error:
        print(error, file=sys.stderr)  # noqa: T201 - see above
        return 1


_MUST = {
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_parsing": "it must be a number",
    "bool_parsing": "it must be true or false",
}
"""By pydantic's type of a fault what it would have to be."""


def _sentence(error: ValidationError) -> str:
    """The first fault in one sentence: variable, value, remedy."""
    fault: Any = error.errors()[0]
    remedy = _MUST.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return remedy  # of several variables; it names them
    variable = str(fault["loc"][0]).upper()
    remedy = re.sub(r"^(Input|Value|List|Tuple) ", "it ", remedy)
    return f"{variable}={fault['input']!r} is not valid: {remedy}"


def _check() -> None:
    load_settings()


if __name__ == "__main__":
    # `make up` asks the image so, before it touches anything that runs.
    sys.exit(exit_code(_check))
