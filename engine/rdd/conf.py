"""The settings of a context, as PySpark's users write them.

Owns: SparkConf, Choices, SYSTEM_PROPERTIES, settings_of, megabytes, refuse_parts_of_pyspark.
Never: the environment, a folder made; a setting is text until its context reads it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self, cast

from engine.errors import ConfigurationError
from engine.rdd.paths import local_path, only_on_spark

SYSTEM_PROPERTIES: Final[dict[str, str]] = {}
"""What `SparkContext.setSystemProperty` keeps, for every later context of this process."""
_EXECUTOR_ENVIRONMENT: Final = "spark.executorEnv."
"""Begins the keys of variables for the executors."""
_SIZE: Final = re.compile(r"(\d+)([kmgt])b?", re.IGNORECASE)
_MASTER: Final = re.compile(r"local(?:\[(\d+|\*)\])?")
_WORKER_MEMORY: Final = "spark.python.worker.memory"
DEFAULT_MEMORY: Final = 160
"""MB that one operation of a task may hold."""
_UNITS: Final = {"k": 2**-10, "m": 1, "g": 2**10, "t": 2**20}


class SparkConf:
    """Settings for `LocalContext(conf=...)` by their keys; every setter gives the object itself, so that calls chain.

    Read are spark.master, spark.app.name, spark.home, spark.executorEnv.*, spark.local.dir, spark.python.worker.memory and
    spark.submit.pyFiles; by a StreamingContext spark.streaming.backpressure.enabled, spark.streaming.backpressure.initialRate and
    spark.streaming.backpressure.pid.*. Any other key is kept and has no effect; docs/api.md says what stands in its place.

    Args:
        loadDefaults: begin with the properties that `setSystemProperty` was given.

    Example:
        >>> from engine import LocalContext, SparkConf
        >>> with LocalContext(conf=SparkConf().setMaster("local").setAppName("counts")) as sc:
        ...     sc.master, sc.appName
        ('local', 'counts')

    Source: pyspark.SparkConf. Difference: there is no Java machine, so no file and no property of one is read.
    """

    def __init__(self, loadDefaults: bool = True) -> None:
        self._values = dict(SYSTEM_PROPERTIES) if loadDefaults else {}

    def set(self, key: str, value: Any) -> Self:
        """Set a key; what is no text becomes text.

        Raises:
            ConfigurationError: the key or the value is None.

        Source: pyspark.SparkConf.set.

        Example:
            >>> SparkConf().set("spark.local.dir", "/scratch").get("spark.local.dir")
            '/scratch'
        """
        if key is None or value is None:
            raise ConfigurationError(f"the setting is {key!r} with the value {value!r}; give a text for both")
        self._values[str(key)] = str(value)
        return self

    def setIfMissing(self, key: str, value: Any) -> Self:
        """Set a key that has no value yet.

        Source: pyspark.SparkConf.setIfMissing.

        Example:
            >>> SparkConf().setAppName("first").setIfMissing("spark.app.name", "second").get("spark.app.name")
            'first'
        """
        return self if key in self._values else self.set(key, value)

    def setMaster(self, value: str) -> Self:
        """Set what computes the RDDs, spark.master.

        Source: pyspark.SparkConf.setMaster.

        Example:
            >>> SparkConf().setMaster("local[2]").get("spark.master")
            'local[2]'
        """
        return self.set("spark.master", value)

    def setAppName(self, value: str) -> Self:
        """Set the application's name, spark.app.name.

        Source: pyspark.SparkConf.setAppName.

        Example:
            >>> SparkConf().setAppName("counts").get("spark.app.name")
            'counts'
        """
        return self.set("spark.app.name", value)

    def setSparkHome(self, value: str) -> Self:
        """Set where Spark is installed, spark.home; `LocalContext` needs none and only tells it.

        Source: pyspark.SparkConf.setSparkHome.

        Example:
            >>> SparkConf().setSparkHome("/opt/spark").get("spark.home")
            '/opt/spark'
        """
        return self.set("spark.home", value)

    def setExecutorEnv(
        self, key: str | None = None, value: Any = None, pairs: Iterable[tuple[str, Any]] | None = None
    ) -> Self:
        """Set a variable of the executors' environment, or several.

        Raises:
            ConfigurationError: both a key and pairs are given, or neither is.

        Source: pyspark.SparkConf.setExecutorEnv.

        Example:
            >>> SparkConf().setExecutorEnv("LANG", "C").get("spark.executorEnv.LANG")
            'C'
        """
        if (key is None) is (pairs is None):
            raise ConfigurationError(
                f"Either both a key and value or a list of pairs must be given, and key is {key!r}, pairs is {pairs!r:.60}; "
                "give one of the two"
            )
        given = [(key, value)] if pairs is None else pairs
        return self.setAll((f"{_EXECUTOR_ENVIRONMENT}{name}", text) for name, text in given)

    def setAll(self, pairs: Iterable[tuple[str, Any]]) -> Self:
        """Set several keys.

        Source: pyspark.SparkConf.setAll.

        Example:
            >>> SparkConf().setAll([("spark.master", "local"), ("spark.app.name", "counts")]).get("spark.master")
            'local'
        """
        for key, value in pairs:
            self.set(key, value)
        return self

    def get(self, key: str, defaultValue: str | None = None) -> str | None:
        """The value of a key, or the default.

        Source: pyspark.SparkConf.get.

        Example:
            >>> SparkConf().get("spark.local.dir", "/tmp")
            '/tmp'
        """
        return self._values.get(key, defaultValue)

    def getAll(self) -> list[tuple[str, str]]:
        """Every key with its value.

        Source: pyspark.SparkConf.getAll.

        Example:
            >>> SparkConf(loadDefaults=False).setMaster("local").getAll()
            [('spark.master', 'local')]
        """
        return list(self._values.items())

    def contains(self, key: str) -> bool:
        """Whether a key has a value.

        Source: pyspark.SparkConf.contains.

        Example:
            >>> SparkConf().setMaster("local").contains("spark.master")
            True
        """
        return key in self._values

    def toDebugString(self) -> str:
        """Every key with its value, a line each, by key.

        Source: pyspark.SparkConf.toDebugString.

        Example:
            >>> print(SparkConf(loadDefaults=False).setMaster("local").setAppName("counts").toDebugString())
            spark.app.name=counts
            spark.master=local
        """
        return "\n".join(f"{key}={value}" for key, value in sorted(self._values.items()))


def settings_of(conf: Any) -> dict[str, str]:
    """The settings of a SparkConf, ours or PySpark's, or of a mapping over the system properties; of None these.

    Raises:
        ConfigurationError: it is none of these.

    Example:
        >>> settings_of(SparkConf(loadDefaults=False).setMaster("local"))
        {'spark.master': 'local'}
    """
    if conf is None:
        return dict(SYSTEM_PROPERTIES)
    if isinstance(conf, Mapping):
        return {**SYSTEM_PROPERTIES, **cast("Mapping[str, str]", conf)}
    if not hasattr(conf, "getAll"):
        raise ConfigurationError(f"conf is {conf!r:.60}; give a SparkConf")
    return dict(conf.getAll())


def megabytes(key: str, value: str) -> int:
    """A size with its unit, such as 512m or 1g, in MB.

    Raises:
        ConfigurationError: it is no such size.

    Example:
        >>> megabytes("spark.python.worker.memory", "1g")
        1024
    """
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ConfigurationError(f"{key} is {value!r}; give a number and a unit, such as 512m or 1g")
    return int(int(match[1]) * _UNITS[match[2].lower()])


def refuse_parts_of_pyspark(**given: Any) -> None:
    """Prove that no argument has a value which only PySpark itself could use.

    Raises:
        ConfigurationError: one has.
    """
    for name, value in given.items():
        if value is not None:
            raise only_on_spark(f"{name}={value!r:.60}")


class Choices:
    """What a context makes of its settings.

    Args:
        conf: a `SparkConf`, ours or PySpark's, or a mapping, or None.
        master: counts more than the setting, as do the others when given.
        name: of the application.
        home: of Spark.
        environment: of the executors.

    Raises:
        ConfigurationError: a setting cannot be served.
    """

    def __init__(
        self,
        conf: Any,
        master: str | None,
        name: str | None,
        home: str | None,
        environment: Mapping[str, Any] | None,
    ) -> None:
        given = {"spark.master": master, "spark.app.name": name or None, "spark.home": home or None}
        variables = SparkConf(loadDefaults=False).setExecutorEnv(pairs=(environment or {}).items())
        self.settings = {
            "spark.master": "local",
            "spark.app.name": "app",
            **settings_of(conf),
            **{key: value for key, value in given.items() if value is not None},
            **dict(variables.getAll()),
        }
        """By key."""
        self.master = self.settings["spark.master"]
        self.app_name = self.settings["spark.app.name"]
        match = _MASTER.fullmatch(self.master) if isinstance(self.master, str) else None
        if match is None or match[1] == "0":
            raise ConfigurationError(
                f"master is {self.master!r}; use local, local[N] with N of at least 1, or local[*]"
            )
        self.cores: str | None = match[1]
        """The N of local[N]; None when tasks run in this process."""
        self.environment = {
            key.removeprefix(_EXECUTOR_ENVIRONMENT): value
            for key, value in self.settings.items()
            if key.startswith(_EXECUTOR_ENVIRONMENT)
        }
        """Variables of the executors."""
        if self.environment and self.cores is None:
            raise ConfigurationError(
                f"environment is {sorted(self.environment)} and master local runs tasks in this process; set them in its environment, or use "
                "local[N]"
            )

    def memory(self, given: int | None) -> int:
        """MB that one operation of a task may hold.

        Raises:
            ConfigurationError: less than 1.
        """
        setting = self.settings.get(_WORKER_MEMORY)
        found = DEFAULT_MEMORY if setting is None else megabytes(_WORKER_MEMORY, setting)
        memory = found if given is None else given
        if memory < 1:
            raise ConfigurationError(f"memory is {memory} MB; give a number of at least 1")
        return memory

    def task_timeout(self, given: float | None) -> float | None:
        """Seconds that a task may take; None for no limit.

        Raises:
            ConfigurationError: it is not above 0, or tasks run in this process.
        """
        if given is not None and (not isinstance(given, int | float) or given <= 0):
            raise ConfigurationError(
                f"taskTimeout is {given!r:.60}; give seconds above 0, or None for no limit"
            )
        if given is not None and self.cores is None:
            raise ConfigurationError(
                f"taskTimeout is {given} and master local runs tasks in this process, which nobody can end; use local[N]"
            )
        return given

    def temporary_folder(self, given: str | os.PathLike[str] | None) -> str | None:
        """Where to spill; None for the system's folder.

        Raises:
            ConfigurationError: it is on another file system.
        """
        place = given or self.settings.get("spark.local.dir", "").partition(",")[0]
        return str(local_path(place)) if place else None

    def py_files(self, given: Iterable[str] | None) -> list[str]:
        """Modules that tasks import."""
        submitted = self.settings.get("spark.submit.pyFiles", "").split(",")
        return [path for path in (*submitted, *(given or ())) if path]
