"""The embedded backend: `LocalContext("local")` in this process, `LocalContext("local[N]")` over N executor processes.

Partition i of every stage is computed by executor i modulo N, so whatever a process keeps for a partition (a Kafka
consumer, a shard of state, cached elements) is there in the next batch. A stage is one message to each executor.

Owns: LocalContext.
Never: a record; what passes through the driver is offset ranges, pickled buckets and results.
"""

import itertools
import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, cast

from engine.errors import (
    ConfigurationError,
    ExecutorLostError,
    LifecycleError,
    StreamingError,
    TaskTimeoutError,
)
from engine.rdd.ambient import Surroundings
from engine.rdd.api import RDD, T
from engine.rdd.conf import Choices, SparkConf, refuse_parts_of_pyspark, settings_of
from engine.rdd.driver import DriverOnly
from engine.rdd.executor import ExecutorProcess, InProcessExecutor, Outcome, Stage
from engine.rdd.functions import FunctionTable
from engine.rdd.lineage import Lineage, PlanBuilder, own
from engine.rdd.local import LocalRDD, ParallelizedRDD, PinnedRDD
from engine.rdd.plan import End, Task
from engine.rdd.rearranging import united
from engine.rdd.scratch import SHUFFLED, SPILLED, Scratch
from engine.rdd.shared import Accumulator


class _Listed(Generic[T]):
    """The function's elements as a list, which can travel."""

    def __init__(self, function: Callable[[Iterator[Any]], Iterable[T]]) -> None:
        self._function = function

    def __call__(self, elements: Iterator[Any]) -> list[T]:
        return list(self._function(elements))


def _taken(queue: deque[T]) -> list[T]:
    """What is in the queue, which finalizers may append to meanwhile."""
    return [queue.popleft() for _ in range(len(queue))] if queue else []


class LocalContext(DriverOnly, Surroundings):
    """Makes RDDs and runs their jobs on this machine; PySpark's SparkContext as far as streams need it.

    Tasks work on copies of what their functions capture, taken when a job begins, on every master: a job sees what the driver changed
    before it, and the driver sees of a task what it returns, and what it adds to accumulators.

    Any thread may run jobs; those of several threads run one after another, each over all executors. Local properties are
    the context's, not a thread's.

    Args:
        master: "local" runs tasks in this process; "local[N]" on N processes; "local[*]" one for each core. "local" when neither it nor
            `conf` says.
        appName: name of the application; its checkpoint folder is named after it. "app" when neither it nor `conf` says.
        sparkHome: told by `getConf`; nothing here needs it.
        pyFiles: modules and archives of modules, as for `addPyFile`.
        environment: variables for the executors; not with "local", whose tasks run in this process.
        batchSize: accepted for ports, as is `serializer`: elements are serialised in one way, as many together as is good.
        serializer: see batchSize.
        conf: a `SparkConf`, ours or PySpark's, or a mapping; what is given beside it counts more. See `SparkConf` for its keys.
        gateway: none can be given, as of `jsc` and the three profilers: they are parts of PySpark.
        jsc: see gateway.
        profiler_cls: see gateway.
        udf_profiler_cls: see gateway.
        memory_profiler_cls: see gateway.
        memory: MB that one operation of a task may hold, above what its process held before; beyond it goes to disk. 160, or the
            spark.python.worker.memory of `conf`.
        taskTimeout: seconds that a task may take, those aside in which it waits for Kafka or one of the engine's stores; an executor that
            has no answer after that for each task of its stage is killed, and the job fails with the function that it was in. None for
            no limit, and with "local", whose tasks run in this process.
        temporaryFolder: where shuffles and what is beyond memory go; when None the first spark.local.dir of `conf`, or else the system's
            folder of temporary files.
            Nothing is left there when the context stops; what a killed driver left is removed by the next context.

    Raises:
        ConfigurationError: the master is none of these, the memory is below 1, the folder cannot be written, or something was given
            that only PySpark has.

    Example:
        >>> with LocalContext("local") as sc:
        ...     sc.parallelize(range(4), 2).map(lambda n: n * n).collect()
        [0, 1, 4, 9]

    Source: pyspark.SparkContext. Difference: without a master or a name it is "local" and "app", where PySpark has none or what
        spark-submit gives; several contexts may run in a process; a function is serialised when its job begins, also for a second
        collect of one RDD; each function has a copy of its own of an object that two functions of a job capture; on "local" the
        globals of a module that can be imported are the driver's own.
    """

    _newest: ClassVar["weakref.ref[LocalContext] | None"] = None
    """The context that was made last in this process."""

    def __init__(
        self,
        master: str | None = None,
        appName: str | None = None,
        sparkHome: str | None = None,
        pyFiles: Iterable[str] | None = None,
        environment: Mapping[str, Any] | None = None,
        batchSize: int = 0,  # noqa: ARG002 - PySpark's signature, as the next
        serializer: Any = None,  # noqa: ARG002
        conf: SparkConf | Mapping[str, str] | None = None,
        gateway: Any = None,
        jsc: Any = None,
        profiler_cls: Any = None,
        udf_profiler_cls: Any = None,
        memory_profiler_cls: Any = None,
        *,
        memory: int | None = None,
        taskTimeout: float | None = None,
        temporaryFolder: str | os.PathLike[str] | None = None,
    ) -> None:
        refuse_parts_of_pyspark(
            gateway=gateway,
            jsc=jsc,
            profiler_cls=profiler_cls,
            udf_profiler_cls=udf_profiler_cls,
            memory_profiler_cls=memory_profiler_cls,
        )
        chosen = Choices(conf, master, appName, sparkHome, environment)
        cores, memory = chosen.cores, chosen.memory(memory)
        super().__init__()
        self.master, self._app_name = chosen.master, chosen.app_name
        self._settings = chosen.settings
        self.environment = chosen.environment
        """Variables of the executors beside the driver's."""
        self._parallelism = (os.cpu_count() or 1) if cores == "*" else int(cores or 1)
        self._scratch = Scratch(chosen.temporary_folder(temporaryFolder))
        self._memory_bytes = memory * 1_024 * 1_024
        self._task_timeout = chosen.task_timeout(taskTimeout)
        self._in_process = (
            InProcessExecutor(self._memory_bytes, self._scratch.path) if cores is None else None
        )
        self._functions = FunctionTable()
        self._numbers, self._stages, self._attempts = itertools.count(), itertools.count(), itertools.count()
        self._written = {number: Accumulator(number, 0) for number in (SHUFFLED, SPILLED)}
        self._accumulators.update(self._written)
        self.task_outcomes: Counter[str] = Counter(completed=0, failed=0, lost=0)
        """Tasks by outcome: those of a stage that was answered, those that raised, those that were sent to an executor
        that died. What stood behind a task that raised, in the same executor, did not run and is not counted."""
        self.one_job = threading.RLock()
        """Held by the thread whose job runs: the pipes, and in `local` the tasks' runtime, serve one job at a time."""
        # Finalizers run on whichever thread drops the last reference, in the middle of anything: they only append here.
        self._released_rdds: deque[int] = deque()
        self._released_broadcasts: deque[str] = deque()
        self._stopped = False
        self._executors = [] if self._in_process else list(map(self._executor, range(self._parallelism)))
        self._forgotten: list[list[int]] = [[] for _ in range(self._parallelism)]
        LocalContext._newest = weakref.ref(self)
        for path in chosen.py_files(pyFiles):
            self.addPyFile(path)

    @classmethod
    def getOrCreate(cls, conf: SparkConf | Mapping[str, str] | None = None) -> "LocalContext":
        """The context that was made last, while it runs; where none does, one of these settings.

        Args:
            conf: a `SparkConf`, ours or PySpark's, or a mapping; without a master local[*], a process for each core.

        Source: pyspark.SparkContext.getOrCreate.

        Example:
            >>> with LocalContext("local") as sc:
            ...     LocalContext.getOrCreate() is sc
            True
        """
        newest = LocalContext._newest() if LocalContext._newest is not None else None
        if newest is not None and not newest._stopped:  # noqa: SLF001 - of the same class
            return newest
        return cls(conf={"spark.master": "local[*]", **settings_of(conf)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def defaultParallelism(self) -> int:
        """Number of tasks that run at the same time.

        Example:
            >>> with LocalContext("local") as sc:
            ...     sc.defaultParallelism
            1
        """
        return self._parallelism

    @property
    def appName(self) -> str:
        """Name of the application.

        Example:
            >>> with LocalContext("local", "counts") as sc:
            ...     sc.appName
            'counts'
        """
        return self._app_name

    @property
    def executor_pids(self) -> list[int]:
        """Process ids of the executors; empty for `local`.

        Example:
            >>> with LocalContext("local") as sc:
            ...     sc.executor_pids
            []
        """
        return [executor.pid for executor in self._executors]

    def parallelize(self, c: Iterable[T], numSlices: int | None = None) -> LocalRDD[T]:
        """The elements as they are now, as an RDD of that many partitions, as equal in size as can be.

        What can change in place is serialised at once, so a later change is seen by no task.

        Raises:
            ConfigurationError: numSlices is below 1, or an element cannot be serialised.

        Example:
            >>> with LocalContext("local") as sc:
            ...     sc.parallelize([1, 2, 3], 2).glom().collect()
            [[1], [2, 3]]
        """
        elements: Sequence[T] = cast("Sequence[T]", c) if isinstance(c, range) else list(c)
        count = self._parallelism if numSlices is None else numSlices
        if count < 1:
            raise ConfigurationError(f"numSlices is {count}; give a number of at least 1")
        edges = [index * len(elements) // count for index in range(count + 1)]
        return ParallelizedRDD(self, [elements[begin:end] for begin, end in itertools.pairwise(edges)])

    def range(
        self, start: int, end: int | None = None, step: int = 1, numSlices: int | None = None
    ) -> LocalRDD[int]:
        """The numbers of Python's range with these arguments; a task gets its part of the range, not the numbers.

        Source: pyspark.SparkContext.range.

        Example:
            >>> with LocalContext("local") as sc:
            ...     sc.range(3).collect(), sc.range(7, 1, -2).collect()
            ([0, 1, 2], [7, 5, 3])
        """
        return self.parallelize(range(start) if end is None else range(start, end, step), numSlices)

    def pinned(self, numPartitions: int) -> LocalRDD[int]:
        """The number of each partition; what is made of it is computed where tasks of that number always are.

        For functions that read what earlier tasks of the same number left in their process.
        """
        return PinnedRDD(self, numPartitions)

    def emptyRDD(self) -> LocalRDD[Any]:
        """An RDD without a partition.

        Example:
            >>> with LocalContext("local") as sc:
            ...     sc.emptyRDD().collect()
            []
        """
        return ParallelizedRDD(self, [])

    def union(self, rdds: Sequence[RDD[Any]]) -> LocalRDD[Any]:
        """The partitions of all of them.

        Example:
            >>> with LocalContext("local") as sc:
            ...     sc.union([sc.range(2), sc.range(2)]).collect()
            [0, 1, 0, 1]
        """
        return cast("LocalRDD[Any]", united([own(self, rdd) for rdd in rdds])) if rdds else self.emptyRDD()

    def next_number(self) -> int:
        """A number that nothing else of this context has."""
        return next(self._numbers)

    def folder(self, name: str) -> Path:
        """A folder of that name which is there for this context's life.

        Raises:
            ConfigurationError: there is no folder of temporary files.
        """
        if not self._scratch.path:
            raise ConfigurationError(
                "there is no folder of temporary files; give LocalContext a temporaryFolder"
            )
        made = Path(self._scratch.path) / name
        made.mkdir(exist_ok=True)
        return made

    def runJob(
        self,
        rdd: RDD[Any],
        partitionFunc: Callable[[Iterator[Any]], Iterable[T]],
        partitions: Sequence[int] | None = None,
        allowLocal: bool = False,  # noqa: ARG002 - PySpark takes it and leaves it aside too
    ) -> list[T]:
        """The elements that the function gives for each of these partitions; of all when none are named.

        Source: pyspark.SparkContext.runJob.

        Example:
            >>> with LocalContext("local") as sc:
            ...     sc.runJob(sc.range(4, numSlices=2), lambda part: [sum(part)])
            [1, 5]
        """
        return list(itertools.chain.from_iterable(own(self, rdd).run(_Listed(partitionFunc), partitions)))

    def stop(self) -> None:
        """End the executors; a second call does nothing.

        Example:
            >>> sc = LocalContext("local")
            >>> sc.stop()
        """
        if not self._stopped:
            self._stopped = True
            for executor in self._executors:
                executor.stop()
            if self._in_process:
                self._in_process.stop()
            self._scratch.close()

    @property
    def shuffle_file_bytes(self) -> int:
        """Bytes that map tasks wrote to files since the context was made; small shuffles need none."""
        return int(self._written[SHUFFLED].value)

    @property
    def spilled_bytes(self) -> int:
        """Bytes that tasks laid aside on disk for want of memory since the context was made."""
        return int(self._written[SPILLED].value)

    # What an RDD asks for (the Backend protocol).

    def next_rdd_id(self) -> int:
        """A number that no other RDD of this context has."""
        return next(self._numbers)

    def release_rdd(self, rdd: int) -> None:
        """Let executors drop the RDD's kept partitions, with the next stage."""
        self._released_rdds.append(rdd)

    def release_broadcast(self, path: str) -> None:
        """Remove the file of a broadcast value, and let executors drop the value with the next stage."""
        Path(path).unlink(missing_ok=True)
        self._released_broadcasts.append(path)

    def interrupt(self) -> None:
        """End what the executors compute now."""
        for executor in list(self._executors):
            executor.kill()

    def recover(self) -> None:
        """Have executors again in place of those that were ended."""
        for executor in list(self._executors):
            if executor.is_killed:
                self._replace(executor)

    def remove_shuffle(self, name: str) -> None:
        """Remove the files of a shuffle."""
        self._scratch.remove(name)

    def run_stage(
        self, rdd: Lineage[Any], end: Callable[[PlanBuilder], End], partitions: Sequence[int]
    ) -> list[Any]:
        """The result of each of the partitions, in the order given.

        Raises:
            LifecycleError: the context was stopped.
            ExecutorLostError: an executor died; it has been replaced, and the job can be run again.
            UserFunctionError: a function of the user raised.
        """
        with self.one_job:
            return self._run_stage(rdd, end, partitions)

    def _run_stage(
        self, rdd: Lineage[Any], end: Callable[[PlanBuilder], End], partitions: Sequence[int]
    ) -> list[Any]:
        if self._stopped:
            raise LifecycleError("the context was stopped; make a new LocalContext")
        tasks: list[list[Task]] = [[] for _ in range(self._parallelism)]
        functions: list[set[int]] = [set() for _ in range(self._parallelism)]
        # Held until the tasks are done: what a task needs must not be let go before.
        own_functions = self._functions.begin()
        stage = next(self._stages)
        for index in partitions:
            builder = PlanBuilder(own_functions.number)
            plan, finish = rdd.plan(builder, index), end(builder)
            place = rdd.place(index) % self._parallelism
            tasks[place].append(Task(plan, index, builder.inputs, finish, stage, next(self._attempts)))
            functions[place].update(builder.functions)
        outcomes = self._run_tasks(tasks, functions)
        return self._in_order(partitions, tasks, outcomes)

    def _in_order(
        self, partitions: Sequence[int], tasks: list[list[Task]], outcomes: list[Outcome]
    ) -> list[Any]:
        results: dict[int, Any] = {}
        updates: dict[int, dict[int, list[Any]]] = {}
        for own_tasks, outcome in zip(tasks, outcomes, strict=True):
            for task, (result, added) in zip(own_tasks, outcome, strict=True):
                results[task.partition], updates[task.partition] = result, added
        for index in partitions:
            for number, terms in updates[index].items():
                accumulator = self._accumulators.get(number)
                if accumulator is not None:  # else nobody can read it any more
                    for term in terms:
                        accumulator.merge(term)
        return [results[index] for index in partitions]

    def _run_tasks(self, tasks: list[list[Task]], functions: list[set[int]]) -> list[Outcome]:
        released = _taken(self._released_rdds), _taken(self._released_broadcasts)
        gone = self._functions.take_released()
        for forgotten in self._forgotten:
            forgotten.extend(gone)
        if in_process := self._in_process:
            stage = self._stage(in_process, self.jobs.until_cancelled(tasks[0]), functions, released)
            return [self._counted(lambda: in_process.run(stage), len(tasks[0]))]
        outcomes: list[Outcome] = [[] for _ in tasks]
        errors: list[StreamingError] = []
        busy: list[ExecutorProcess] = []
        for executor in self._executors:
            if tasks[executor.index] or any(released):
                try:
                    executor.send(self._stage(executor, tasks[executor.index], functions, released))
                    busy.append(executor)
                except ExecutorLostError as error:
                    errors.append(error)
                    self.task_outcomes["lost"] += len(tasks[executor.index])
                    self._replace(executor)
        # Every executor's answer is taken, also after an error, so that each is idle when the next stage comes.
        for executor in busy:
            try:
                outcomes[executor.index] = self._counted(executor.receive, len(tasks[executor.index]))
            except (ExecutorLostError, TaskTimeoutError) as error:
                errors.append(error)
                self._replace(executor)
            except StreamingError as error:
                errors.append(error)
        if errors:
            # A lost executor is retried; what a user's function raises is not, and must not hide behind it.
            raise min(errors, key=lambda error: isinstance(error, ExecutorLostError))
        return outcomes

    def _counted(self, answer: Callable[[], Outcome], tasks: int) -> Outcome:
        try:
            outcome = answer()
        except ExecutorLostError:
            self.task_outcomes["lost"] += tasks
            raise
        except StreamingError:
            self.task_outcomes["failed"] += 1
            raise
        self.task_outcomes["completed"] += tasks
        return outcome

    def _stage(
        self,
        executor: ExecutorProcess | InProcessExecutor,
        tasks: Iterable[Task],
        functions: list[set[int]],
        released: tuple[list[int], list[str]],
    ) -> Stage:
        new = {
            number: self._functions.payload(number)
            for number in functions[executor.index]
            if number not in executor.shipped
        }
        forget, self._forgotten[executor.index] = self._forgotten[executor.index], []
        return Stage(new, forget, *released, dict(self._properties), tasks)

    def _executor(self, index: int) -> ExecutorProcess:
        return ExecutorProcess(
            index, self._memory_bytes, self._scratch.path, self.environment, self._task_timeout
        )

    def _replace(self, executor: ExecutorProcess) -> None:
        executor.stop()
        if self._stopped:
            return
        self._executors[executor.index] = self._executor(executor.index)
        self._forgotten[executor.index] = []
