"""What surrounds the jobs of a context: shared variables, files for the executors, its name and settings.

Owns: Surroundings.
Never: a stage.
"""

import getpass
import importlib
import logging
import shutil
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

from engine.clock import SystemClock
from engine.errors import ConfigurationError, SinkError
from engine.rdd.api import T
from engine.rdd.conf import SYSTEM_PROPERTIES, SparkConf
from engine.rdd.jobs import JobProperties
from engine.rdd.paths import file_uri, local_path, only_on_spark
from engine.rdd.shared import FILES_PROPERTY, Accumulator, AccumulatorParam, Broadcast, SparkFiles
from engine.rdd.surface import Reading
from engine.version import VERSION

R = TypeVar("R")


class Surroundings(JobProperties, Reading):
    """What surrounds a context's jobs; `LocalContext` inherits it."""

    master: str
    """What computes the RDDs, such as local[2]."""
    startTime: int
    """When the context was made; milliseconds since the epoch, UTC."""
    _settings: Mapping[str, str]
    """As they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.startTime = SystemClock().wall_ms()
        self._accumulators: weakref.WeakValueDictionary[int, Accumulator[Any]] = weakref.WeakValueDictionary()
        """Those that somebody may still read."""
        self._added_files: list[str] = []
        self._archives: list[str] = []
        self._checkpoint_dir: str | None = None

    # What the context says of itself.

    @property
    def appName(self) -> str:
        """Name of the application.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local", "counts") as sc:
            ...     sc.appName
            'counts'
        """
        raise NotImplementedError(type(self).__name__)

    @property
    def applicationId(self) -> str:
        """A name of this run: "local-" and the time of its start.

        Source: pyspark.SparkContext.applicationId.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.applicationId.startswith("local-")
            True
        """
        return f"local-{self.startTime}"

    @property
    def version(self) -> str:
        """The version of this library; PySpark tells Spark's.

        Source: pyspark.SparkContext.version. Difference: it is this library's, and PySpark tells Spark's.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.version == sc.version.strip()
            True
        """
        return VERSION

    @property
    def uiWebUrl(self) -> str | None:
        """None: the streaming page belongs to who serves it.

        Source: pyspark.SparkContext.uiWebUrl. Difference: there is no page of Spark's; PySpark gives its address.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.uiWebUrl is None
            True
        """
        return None

    @property
    def resources(self) -> dict[str, Any]:
        """None are handed out here.

        Source: pyspark.SparkContext.resources.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.resources
            {}
        """
        return {}

    def sparkUser(self) -> str:
        """Who runs the application.

        Source: pyspark.SparkContext.sparkUser.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     len(sc.sparkUser()) > 0
            True
        """
        return getpass.getuser()

    def getConf(self) -> SparkConf:
        """A copy of the context's settings: those that it was given, and what it made of them.

        Source: pyspark.SparkContext.getConf.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local", "counts") as sc:
            ...     sc.getConf().get("spark.app.name"), sc.getConf().contains("spark.executor.memory")
            ('counts', False)
        """
        own = {
            "spark.app.id": self.applicationId,
            "spark.app.name": self.appName,
            "spark.app.startTime": self.startTime,
            "spark.default.parallelism": self.defaultParallelism,
            "spark.master": self.master,
        }
        return SparkConf(loadDefaults=False).setAll({**self._settings, **own}.items())

    @classmethod
    def setSystemProperty(cls, key: str, value: str) -> None:
        """Keep a property of this process; `spark.master` and `spark.app.name` count for a later `getOrCreate`.

        Source: pyspark.SparkContext.setSystemProperty, which sets it in the Java machine. Difference: the property is of this
            process, and not of a Java machine; only the keys of a SparkConf count.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.setSystemProperty("color", "blue")
            ...     sc.getSystemProperty("color")
            'blue'
        """
        SYSTEM_PROPERTIES[key] = value

    @classmethod
    def getSystemProperty(cls, key: str) -> str | None:
        """The property that was set, or None; there is no Java machine that would have others.

        Source: pyspark.SparkContext.getSystemProperty. Difference: there is no Java machine, which has properties of its own.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.getSystemProperty("unheard.of") is None
            True
        """
        return SYSTEM_PROPERTIES.get(key)

    def show_profiles(self) -> NoReturn:
        """Profiles of tasks are Spark's; the engine's metrics tell what a batch spends its time on.

        Raises:
            ConfigurationError: always.

        Source: pyspark.SparkContext.show_profiles.
        """
        raise only_on_spark("show_profiles")

    def dump_profiles(self, path: str) -> NoReturn:
        """As `show_profiles`.

        Raises:
            ConfigurationError: always.

        Source: pyspark.SparkContext.dump_profiles.
        """
        raise only_on_spark(f"dump_profiles({path!r})")

    def setLogLevel(self, logLevel: str) -> None:
        """Log what is at least as grave, in the driver: a level of `logging`, or ALL, TRACE, FATAL or OFF as in Spark.

        Raises:
            ConfigurationError: there is no such level.

        Source: pyspark.SparkContext.setLogLevel. Difference: it is the level of the engine's logger, and not of a Java machine's.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.setLogLevel("WARN")
        """
        spelled = {
            "ALL": "DEBUG",
            "TRACE": "DEBUG",
            "WARN": "WARNING",
            "FATAL": "CRITICAL",
            "OFF": "CRITICAL",
        }
        name = spelled.get(logLevel.upper(), logLevel.upper())
        if name not in logging.getLevelNamesMapping():
            raise ConfigurationError(f"logLevel is {logLevel!r}; use ERROR, WARN, INFO or DEBUG")
        logging.getLogger("engine").setLevel(name)

    # Shared variables.

    def broadcast(self, value: T) -> Broadcast[T]:
        """A value for tasks to read, which each executor gets once.

        Source: pyspark.SparkContext.broadcast.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     names = sc.broadcast({1: "one"})
            ...     sc.parallelize([1]).map(lambda n: names.value[n]).collect()
            ['one']
        """
        return Broadcast(value, self._new_broadcast_file, self.release_broadcast, self._on_executors)

    def accumulator(self, value: Any, accum_param: AccumulatorParam[Any] | None = None) -> Accumulator[Any]:
        """A variable that tasks add to; by `accum_param`, or by + when there is none.

        Source: pyspark.SparkContext.accumulator. Difference: any value with a + adds; PySpark has none but int, float and complex
            without an accum_param.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     total = sc.accumulator(0)
            ...     sc.parallelize([1, 2]).foreach(total.add)
            ...     total.value
            3
        """
        made = Accumulator(self.next_number(), value, accum_param)
        self._accumulators[made.number] = made
        return made

    def next_number(self) -> int:
        """A number that nothing else of this context has."""
        raise NotImplementedError(type(self).__name__)

    def release_broadcast(self, path: str) -> None:
        """Remove the file of a broadcast value, and let executors drop the value."""
        raise NotImplementedError(type(self).__name__)

    # Files for the executors.

    def addFile(self, path: str, recursive: bool = False) -> None:
        """Copy a file, or with `recursive` a folder, to where tasks find it: `SparkFiles.get(its name)`.

        A file of the same name takes the place of the one before.

        Raises:
            ConfigurationError: there is no such file, or it is a folder and `recursive` is not set.

        Source: pyspark.SparkContext.addFile.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a.txt").write_text("one")
            ...     sc.addFile(f"{folder}/a.txt")
            ...     len(sc.listFiles)
            1
        """
        self._copy(path, recursive)
        self._added_files.append(file_uri(local_path(path)))

    def addPyFile(self, path: str) -> None:
        """Copy a module (.py) or an archive of modules (.zip, .egg) to where later jobs, and the driver, can import it.

        Raises:
            ConfigurationError: there is no such file.

        Source: pyspark.SparkContext.addPyFile.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "shouting.py").write_text("def shout(s): return s.upper()")
            ...     sc.addPyFile(f"{folder}/shouting.py")
            ...     sc.parallelize(['a']).map(lambda s: __import__('shouting').shout(s)).collect()
            ['A']
        """
        copied = self._copy(path, recursive=False)
        self._added_files.append(file_uri(local_path(path)))
        place = str(copied if copied.suffix in {".zip", ".egg", ".whl", ".jar"} else copied.parent)
        # An executor that takes the place of a lost one is started with the driver's path.
        _import_from(place, ())
        self._on_executors(partial(_import_from, place))

    def addArchive(self, path: str) -> None:
        """Unpack an archive to where tasks find it: `SparkFiles.get(its name, or what follows # in the path)`.

        Raises:
            ConfigurationError: there is no such file, or it is no archive that Python can unpack.

        Source: pyspark.SparkContext.addArchive.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     (Path(folder) / "in").mkdir()
            ...     _ = shutil.make_archive(f"{folder}/words", "zip", f"{folder}/in")
            ...     sc.addArchive(f"{folder}/words.zip")
            ...     len(sc.listArchives)
            1
        """
        name, _, alias = path.partition("#")
        source = local_path(name)
        try:
            shutil.unpack_archive(source, self._files_folder() / (alias or source.name))
        except (OSError, shutil.ReadError) as cause:
            raise ConfigurationError(f"archive {path} cannot be unpacked: {cause}") from cause
        self._archives.append(path)

    @property
    def listFiles(self) -> list[str]:
        """The files that were added.

        Source: pyspark.SparkContext.listFiles.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.listFiles
            []
        """
        return list(self._added_files)

    @property
    def listArchives(self) -> list[str]:
        """The archives that were added.

        Source: pyspark.SparkContext.listArchives.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.listArchives
            []
        """
        return list(self._archives)

    def _copy(self, path: str, recursive: bool) -> Path:
        source = local_path(path)
        if not source.exists():
            raise ConfigurationError(f"file {source} does not exist; name one that does")
        if source.is_dir() and not recursive:
            raise ConfigurationError(
                f"Added file {file_uri(source)} is a directory and recursive is not turned on."
            )
        target = self._files_folder() / source.name
        draft = target.with_name(f".{source.name}.{uuid4().hex}")
        if source.is_dir():
            shutil.copytree(source, draft)
            shutil.rmtree(target, ignore_errors=True)
        else:
            shutil.copyfile(source, draft)
        draft.rename(target)
        return target

    # Folders.

    def setCheckpointDir(self, dirName: str) -> None:
        """Where `RDD.checkpoint` keeps elements: a new folder in this one.

        Source: pyspark.SparkContext.setCheckpointDir.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.setCheckpointDir(folder)
            ...     sc.getCheckpointDir().startswith(f"file:{folder}/")
            True
        """
        folder = local_path(dirName) / str(uuid4())
        folder.mkdir(parents=True)
        self._checkpoint_dir = str(folder)

    def getCheckpointDir(self) -> str | None:
        """The folder of checkpointed RDDs, or None.

        Source: pyspark.SparkContext.getCheckpointDir.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.getCheckpointDir() is None
            True
        """
        return None if self._checkpoint_dir is None else file_uri(Path(self._checkpoint_dir))

    def checkOutput(self, path: str) -> None:
        """Prove that the path is on this machine.

        Raises:
            ConfigurationError: it names another file system.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.checkOutput("/tmp/counts")
        """
        local_path(path)

    def removeOutput(self, path: str) -> None:
        """Remove a folder that an RDD was saved to, with all that is in it, if it is there.

        Raises:
            SinkError: it cannot be removed.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.range(1).saveAsTextFile(f"{folder}/out")
            ...     sc.removeOutput(f"{folder}/out")
            ...     sc.range(1).saveAsTextFile(f"{folder}/out")
        """
        try:
            shutil.rmtree(local_path(path))
        except FileNotFoundError:
            return
        except OSError as cause:
            raise SinkError(
                f"{path} of an earlier run of the batch cannot be removed ({cause}); remove it"
            ) from cause

    def folder(self, name: str) -> Path:
        """A folder of that name which is there for this context's life."""
        raise NotImplementedError(type(self).__name__)

    def _files_folder(self) -> Path:
        folder = self.folder("files")
        self.setLocalProperty(FILES_PROPERTY, str(folder))
        SparkFiles.use(str(folder))
        return folder

    def _new_broadcast_file(self) -> Path:
        return self.folder("broadcast") / uuid4().hex

    def _on_executors(self, f: Callable[[Any], R]) -> list[R]:
        """Run a function in each executor."""
        count = self.defaultParallelism
        everywhere: Any = self.parallelize(range(count), count)
        results: list[R] = everywhere.run(f)
        return results


def _import_from(place: str, _elements: Iterable[int]) -> None:
    if place not in sys.path:
        sys.path.insert(1, place)
    importlib.invalidate_caches()
