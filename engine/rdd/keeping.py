"""How an RDD is named and shown, and how it is cut off from what it was computed from.

Owns: Keeping.
Never: the keeping in memory or on disk of `persist`; that is LocalRDD's and the executors'.
"""

import shutil
import weakref
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from engine.errors import ConfigurationError
from engine.rdd.api import T
from engine.rdd.lineage import Exchange, Lineage, PlanBuilder, Prepared
from engine.rdd.paths import file_uri, only_on_spark
from engine.rdd.plan import Narrow, Plan, Split
from engine.rdd.scratch import Place, blocks_at
from engine.rdd.serializers import dump_block
from engine.storage import StorageLevel

_BLOCK_RECORDS: Final = 1_024


class Keeping(Lineage[T]):
    """What an RDD tells of itself, and its checkpoints; `LocalRDD` inherits it."""

    _name: str | None = None
    _checkpoint: Path | None = None
    """Where the elements go before the next job, or are."""
    _is_local: bool = False
    """Whether that is the context's own folder, which goes when the RDD does."""
    _files: Sequence[str] | None = None
    """A file a partition, once the elements are there."""

    @abstractmethod
    def id(self) -> int:
        """A number that no other RDD of this context has."""

    @abstractmethod
    def getStorageLevel(self) -> StorageLevel:
        """Where partitions are kept."""

    @abstractmethod
    def forget_parents(self) -> None:
        """Let go of what the RDD is computed from: its elements are in files."""

    @property
    def ctx(self) -> Any:
        """The context that made the RDD; PySpark's other name for `context`.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).ctx is sc
            True
        """
        return self.context

    # Its name.

    def name(self) -> str | None:
        """The name that it was given.

        Source: pyspark.RDD.name.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).name(), sc.range(1).setName("one").name()
            (None, 'one')
        """
        return self._name

    def setName(self, name: str) -> Self:
        """Give it a name, which `toDebugString` shows.

        Source: pyspark.RDD.setName.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).setName("one").name()
            'one'
        """
        self._name = name
        return self

    def __repr__(self) -> str:
        kind = vars(self).get("_kind")
        named = "" if self._name is None else f"{self._name} "
        return f"{named}{type(self).__name__}[{self.id()}]" + ("" if kind is None else f" at {kind}")

    def toDebugString(self) -> bytes:
        """The RDDs that it is computed from, one a line, in Spark's drawing: an exchange indents what is before it.

        Source: pyspark.RDD.toDebugString; the names are this backend's. Difference: the names of the RDDs are this library's.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     words = sc.parallelize(["a", "b"], 2).setName("words")
            ...     print(words.map(len).toDebugString().decode())  # doctest: +ELLIPSIS
            (2) NarrowRDD[...] at map []
             |  words ParallelizedRDD[...] []
        """
        head = f"({self.getNumPartitions()})"
        return "\n".join([f"{head} {self._shown()}", *_drawn(self._before(), _bar(head))]).encode()

    def _shown(self) -> str:
        level = self.getStorageLevel()
        return f"{self!r} [{'' if level == StorageLevel.NONE else level}]"

    def _before(self) -> Sequence[Prepared]:
        return () if self._files is not None else self.parents

    # Checkpoints.

    def checkpoint(self) -> None:
        """Write the elements to files before the next job on the RDD, or on one made of it, and forget where they came from.

        The files are in a folder of the context's checkpoint directory, serve this context alone, and stay when it
        stops. They are written once; Spark computes the RDD a second time for them.

        Raises:
            ConfigurationError: `setCheckpointDir` was not called.

        Source: pyspark.RDD.checkpoint. Difference: elements are written once, where PySpark computes the RDD a second time for
            them.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.setCheckpointDir(folder)
            ...     lengths = sc.parallelize(["a", "bb"]).map(len)
            ...     lengths.checkpoint()
            ...     lengths.isCheckpointed(), lengths.collect(), lengths.isCheckpointed()
            (False, [1, 2], True)
        """
        folder = self.context.getCheckpointDir()
        if folder is None:
            raise ConfigurationError(
                "Checkpoint directory has not been set in the SparkContext; call sc.setCheckpointDir(path) first"
            )
        self._mark(Path(folder.removeprefix("file:")), is_local=False)

    def localCheckpoint(self) -> None:
        """As `checkpoint`, to the context's own folder; the files are gone when the RDD, or the context, is.

        Source: pyspark.RDD.localCheckpoint.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     lengths = sc.parallelize(['a', 'bb']).map(len)
            ...     lengths.localCheckpoint()
            ...     lengths.collect(), lengths.isCheckpointed()
            ([1, 2], True)
        """
        self._mark(self.context.folder("checkpoints"), is_local=True)

    def _mark(self, parent: Path, *, is_local: bool) -> None:
        if self._checkpoint is None:
            self._checkpoint = parent / f"rdd-{self.id()}"
            self._is_local = is_local
            if is_local:
                gone = weakref.finalize(self, shutil.rmtree, str(self._checkpoint), ignore_errors=True)
                gone.atexit = False

    def isCheckpointed(self) -> bool:
        """Whether the elements are in files.

        Source: pyspark.RDD.isCheckpointed.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).isCheckpointed()
            False
        """
        return self._files is not None

    def isLocallyCheckpointed(self) -> bool:
        """Whether `localCheckpoint` was called.

        Source: pyspark.RDD.isLocallyCheckpointed.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).isLocallyCheckpointed()
            False
        """
        return self._is_local

    def getCheckpointFile(self) -> str | None:
        """The folder of the files of `checkpoint`; None before they are there, and for `localCheckpoint`.

        Source: pyspark.RDD.getCheckpointFile.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).getCheckpointFile() is None
            True
        """
        if self._files is None or self._checkpoint is None or self._is_local:
            return None
        return file_uri(self._checkpoint)

    def settle(self) -> None:
        """Write the checkpoint, when one was asked for and is not there; called before a job."""
        folder = self._checkpoint
        if folder is None or self._files is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        # What writes the files is a job on this RDD, which must find it as one without a checkpoint.
        self._checkpoint = None
        try:
            written = self.mapPartitionsWithIndex(partial(_stored, str(folder))).collect()
        finally:
            self._checkpoint = folder
        self._files = written
        self.forget_parents()

    def restored(self, builder: PlanBuilder, file: str) -> Plan:
        """The plan that reads a partition from its file."""
        return Narrow(Split(builder.leaf([file])), "mapPartitions", builder.function(_restored))

    def cleanShuffleDependencies(self, blocking: bool = False) -> None:  # noqa: ARG002 - files are gone when it returns
        """Remove what the exchanges before it wrote, as far as no kept RDD stands between; a later job computes them anew.

        Source: pyspark.RDD.cleanShuffleDependencies.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     counts = sc.parallelize(["a", "b", "a"]).map(lambda word: (word, 1)).reduceByKey(int.__add__)
            ...     _ = counts.count()
            ...     counts.cleanShuffleDependencies()
            ...     counts.collect()
            [('a', 2), ('b', 1)]
        """
        unseen = list(self._before())
        while unseen:
            parent: Any = unseen.pop()
            if isinstance(parent, Exchange):
                parent.forget()
                parent = parent.parent
            if parent.getStorageLevel() == StorageLevel.NONE:
                unseen += parent._before()  # noqa: SLF001 - of the same class

    # What only Spark has.

    def toDF(self, schema: Any = None, sampleRatio: float | None = None) -> NoReturn:  # noqa: ARG002 - PySpark's signature
        """Data frames are Spark's.

        Raises:
            ConfigurationError: always.

        Source: pyspark.RDD.toDF.
        """
        raise only_on_spark("toDF")

    def barrier(self) -> NoReturn:
        """Tasks that wait for each other need Spark: here a partition may wait for its turn in an executor.

        Raises:
            ConfigurationError: always.

        Source: pyspark.RDD.barrier.
        """
        raise only_on_spark("barrier")

    def withResources(self, profile: Any) -> NoReturn:
        """Resources of executors are Spark's.

        Raises:
            ConfigurationError: always.

        Source: pyspark.RDD.withResources.
        """
        raise only_on_spark(f"withResources({profile})")

    def getResourceProfile(self) -> None:
        """None: there is never a profile here.

        Source: pyspark.RDD.getResourceProfile.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.range(1).getResourceProfile() is None
            True
        """


def _bar(head: str) -> str:
    """What stands before the RDDs under one: a bar below the middle of its number of partitions."""
    left = (len(head) - 1) // 2
    return " " * left + "|" + " " * (len(head) - left)


def _drawn(parents: Sequence[Prepared], bar: str) -> Iterator[str]:
    for number, parent in enumerate(parents, start=1):
        if isinstance(parent, Exchange):
            rdd: Any = parent.parent
            head = f"({rdd.getNumPartitions()})"
            margin = bar[: bar.rindex("|")]
            yield f"{margin}+-{head} {rdd._shown()}"  # noqa: SLF001 - of the same class
            deeper = margin + ("  " if number == len(parents) else "| ") + _bar(head)
            yield from _drawn(rdd._before(), deeper)  # noqa: SLF001 - as above
        else:
            rdd = parent
            yield f"{bar}{rdd._shown()}"  # noqa: SLF001 - as above
            yield from _drawn(rdd._before(), bar)  # noqa: SLF001 - as above


def _stored(folder: str, index: int, elements: Iterator[Any]) -> list[str]:
    """Write a partition under a name of the attempt, and then under its own; returns that."""
    path = Path(folder) / f"part-{index:05d}"
    attempt = path.with_name(f".{path.name}.attempt")
    with attempt.open("wb") as file:
        while block := list(islice(elements, _BLOCK_RECORDS)):
            file.write(dump_block(None, block))
    attempt.rename(path)
    return [str(path)]


def _restored(paths: Iterator[str]) -> Iterator[Any]:
    for path in paths:
        for _, elements in blocks_at(Place(path, ((0, Path(path).stat().st_size),))):
            yield from elements
