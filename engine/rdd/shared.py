"""What tasks and the driver share: accumulators, broadcast variables, files that travel to the executors.

Owns: Accumulator, AccumulatorParam, Broadcast, SparkFiles.
Never: a message; a broadcast value goes to executors through a file of the context's own folder.
"""

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Self

from engine.errors import LifecycleError
from engine.rdd.api import T
from engine.rdd.serializers import dump_by_value, load
from engine.rdd.task import TaskContext

FILES_PROPERTY: Final = "engine.files.directory"
"""The local property that tells tasks where the files of addFile are."""


class AccumulatorParam(Generic[T]):
    """How an accumulator adds; subclass it for values without a + of their own.

    Source: pyspark.AccumulatorParam.

    Example:
        >>> class Largest(AccumulatorParam[int]):
        ...     def zero(self, value: int) -> int:
        ...         return 0
        ...     def addInPlace(self, value1: int, value2: int) -> int:
        ...         return max(value1, value2)
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     seen = sc.accumulator(0, Largest())
        ...     sc.parallelize([3, 9, 4], 2).foreach(seen.add)
        ...     seen.value
        9
    """

    def zero(self, value: T) -> T:
        """What a task begins with: a value that adds nothing, of the shape of the driver's value.

        Example:
            >>> class Lists(AccumulatorParam[list[int]]):
            ...     def zero(self, value: list[int]) -> list[int]:
            ...         return []
            >>> Lists().zero([1])
            []
        """
        raise NotImplementedError(type(self).__name__)

    def addInPlace(self, value1: T, value2: T) -> T:
        """Both added; the first may be changed in place and returned.

        Example:
            >>> class Lists(AccumulatorParam[list[int]]):
            ...     def addInPlace(self, value1: list[int], value2: list[int]) -> list[int]:
            ...         return value1 + value2
            >>> Lists().addInPlace([1], [2])
            [1, 2]
        """
        raise NotImplementedError(type(self).__name__)


class _First:
    """Stands for a task's value before its first term, where nothing is known that adds nothing."""


class _Plus(AccumulatorParam[Any]):
    """The + of the values themselves: numbers, str, tuples, lists."""

    def zero(self, value: Any) -> Any:
        """The zero of numbers; of other values the first term stands in for it."""
        return type(value)(0) if isinstance(value, int | float | complex) else _First

    def addInPlace(self, value1: Any, value2: Any) -> Any:
        """Both added, as a new value."""
        return value2 if value1 is _First else value1 + value2


PLUS: Final = _Plus()
"""What adds when an accumulator is made without a parameter."""


class Accumulator(Generic[T]):
    """A variable that tasks add to and only the driver reads; what a failed task added does not count.

    Raises:
        LifecycleError: its value is read or set in a task.

    Source: pyspark.Accumulator; here any value with a + needs no AccumulatorParam.

    Example:
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     seen = sc.accumulator(0)
        ...     sc.parallelize([1, 2, 3]).foreach(seen.add)
        ...     seen += 10
        ...     seen.value
        16
    """

    def __init__(self, number: int, value: T, accum_param: AccumulatorParam[T] | None = None) -> None:
        self.number = number
        self.accum_param: AccumulatorParam[Any] = PLUS if accum_param is None else accum_param
        self._value: Any = value

    def __getstate__(self) -> dict[str, Any]:
        # A task needs the shape of the value and not the value.
        return {**self.__dict__, "_value": self.accum_param.zero(self._value)}

    @property
    def value(self) -> T:
        """What was added so far.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.accumulator(3).value
            3
        """
        _refuse_task("read")
        value: T = self._value
        return value

    @value.setter
    def value(self, value: T) -> None:
        """Begin anew from a value; in the driver only."""
        _refuse_task("set")
        self._value = value

    def add(self, term: Any) -> None:
        """Add to the variable, in a task or in the driver.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     total = sc.accumulator(0)
            ...     sc.parallelize([1, 2]).foreach(total.add)
            ...     total.value
            3
        """
        context = TaskContext.get()
        if context is None:
            self.merge(term)
            return
        added = context.updates.get(self.number)
        if added is None:
            added = context.updates[self.number] = [self.accum_param.zero(self._value)]
        added[0] = self.accum_param.addInPlace(added[0], term)

    def __iadd__(self, term: Any) -> Self:
        self.add(term)
        return self

    def merge(self, term: Any) -> None:
        """Add to the driver's value."""
        self._value = self.accum_param.addInPlace(self._value, term)

    def __str__(self) -> str:
        return str(self._value)

    def __repr__(self) -> str:
        return f"Accumulator<id={self.number}, value={self._value}>"


def _refuse_task(what: str) -> None:
    if TaskContext.get() is not None:
        raise LifecycleError(
            f"Accumulator.value cannot be accessed inside tasks: it was {what} there; add to it, and read it in the driver"
        )


class Broadcast(Generic[T]):
    """A value that each executor reads once, however many functions use it.

    The value is written to a file of the context's folder as it is when the broadcast is made; the file and the executors' copies
    go when nothing in the driver refers to the broadcast any more. Tasks must not change the value: what they change is seen by
    later tasks of the same executor, though never by the driver.

    Raises:
        LifecycleError: the value is used after `destroy`.

    Source: pyspark.Broadcast.

    Example:
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     names = sc.broadcast({1: "one"})
        ...     sc.parallelize([1]).map(lambda number: names.value[number]).collect()
        ['one']
    """

    _held: ClassVar[dict[str, Any]] = {}
    """In an executor: the values that it has read, by their file."""

    def __init__(
        self,
        value: T,
        file: Callable[[], Path],
        release: Callable[[str], None],
        on_executors: Callable[[Callable[[Any], None]], object],
    ) -> None:
        self._value: Any = value
        self._on_executors = on_executors
        path = file()
        path.write_bytes(dump_by_value(value))
        self._path: str | None = str(path)
        weakref.finalize(self, release, self._path).atexit = False

    def __getstate__(self) -> dict[str, Any]:
        self._check()
        return {"_path": self._path}

    @property
    def value(self) -> T:
        """The value.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.broadcast([1, 2]).value
            [1, 2]
        """
        self._check()
        if "_value" not in self.__dict__:
            value: T = self._read()
            return value
        own: T = self._value
        return own

    def unpersist(self, blocking: bool = False) -> None:  # noqa: ARG002 - the executors have always let go when it returns
        """Let the executors drop the value; they read it again when a task needs it.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     one = sc.broadcast(1)
            ...     one.unpersist()
            ...     sc.range(2).map(lambda n: n + one.value).collect()
            [1, 2]
        """
        self._check()
        assert self._path is not None
        self._on_executors(_Drop(self._path))

    def destroy(self, blocking: bool = False) -> None:
        """Drop the value everywhere; it cannot be used any more.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.broadcast([1, 2]).destroy()
        """
        self.unpersist(blocking)
        assert self._path is not None
        Path(self._path).unlink(missing_ok=True)
        self._path = self._value = None

    def _check(self) -> None:
        if self._path is None:
            raise LifecycleError(
                "Attempted to use Broadcast after it was destroyed; make a new one with sc.broadcast(value)"
            )

    def _read(self) -> Any:
        assert self._path is not None
        if self._path not in Broadcast._held:
            try:
                payload = Path(self._path).read_bytes()
            except FileNotFoundError:
                raise LifecycleError(
                    "Attempted to use Broadcast after it was destroyed; make a new one with sc.broadcast(value)"
                ) from None
            Broadcast._held[self._path] = load(payload)
        return Broadcast._held[self._path]

    @classmethod
    def forget(cls, path: str) -> None:
        """In an executor: drop the value of a file."""
        cls._held.pop(path, None)

    @classmethod
    def forget_folder(cls, folder: str) -> None:
        """Where tasks run in the driver: drop the values of a context's files."""
        for path in [path for path in cls._held if Path(folder) in Path(path).parents]:
            cls.forget(path)


class _Drop:
    """The task that lets an executor drop a broadcast value."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, _elements: Any) -> None:
        Broadcast.forget(self._path)


class SparkFiles:
    """Where tasks find the files that `addFile` brought.

    Source: pyspark.SparkFiles.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from engine import LocalContext
        >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
        ...     _ = (Path(folder) / "names.txt").write_text("one")
        ...     sc.addFile(f"{folder}/names.txt")
        ...     sc.parallelize([0]).map(lambda _: Path(SparkFiles.get("names.txt")).read_text()).collect()
        ['one']
    """

    _driver_directory: ClassVar[str] = ""
    """In the driver: the folder of the context that was last given a file."""

    @classmethod
    def get(cls, filename: str) -> str:
        """The absolute path of a file that was added, in the driver or in a task.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a.txt").write_text("one")
            ...     sc.addFile(f"{folder}/a.txt")
            ...     Path(SparkFiles.get("a.txt")).read_text()
            'one'
        """
        return os.path.join(cls.getRootDirectory(), filename)  # noqa: PTH118 - the name is PySpark's: a str comes back

    @classmethod
    def getRootDirectory(cls) -> str:
        """The folder of all files that were added.

        Raises:
            LifecycleError: none was added.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a.txt").write_text("one")
            ...     sc.addFile(f"{folder}/a.txt")
            ...     sorted(path.name for path in Path(SparkFiles.getRootDirectory()).iterdir())
            ['a.txt']
        """
        context = TaskContext.get()
        found = cls._driver_directory if context is None else context.getLocalProperty(FILES_PROPERTY)
        if not found:
            raise LifecycleError("no file was added; call sc.addFile(path) first")
        return found

    @classmethod
    def use(cls, directory: str) -> None:
        """In the driver: the folder that files are added to from now on."""
        cls._driver_directory = directory
