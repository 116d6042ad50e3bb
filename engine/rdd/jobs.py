"""The jobs of a context: what they are told beside their work, and how one thread cancels those of another.

A job is cancelled by its group, by a tag, or with all others. Executors that compute it are killed, and replaced before the next
job has its turn; where tasks run in the driver's own process, none begins any more.

Owns: JobProperties, Jobs, Told.
Never: a task, a process.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, NamedTuple, NoReturn, Protocol

from engine.errors import ConfigurationError, JobCancelledError
from engine.rdd.api import T
from engine.rdd.paths import only_on_spark

_GROUP_KEYS: Final = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")


class Interruptible(Protocol):
    """What a context does for its jobs."""

    one_job: AbstractContextManager[object]
    """Held by the thread whose job runs; it may be entered again by that thread."""

    def interrupt(self) -> None:
        """End what the executors compute now; called by any thread, while the job runs."""

    def recover(self) -> None:
        """Have executors again in place of those that were ended; called by the job's thread."""


class Told(NamedTuple):
    """What a job was told when it began."""

    group: str | None
    tags: frozenset[str]


class Job:
    """A job that runs, or waits for its turn."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.is_running = False
        self.cause: str | None = None
        """Why it was cancelled; None while it was not."""


class Jobs:
    """The jobs of a context."""

    def __init__(self, context: Interruptible) -> None:
        self._context = context
        self._jobs: list[Job] = []
        self._changing = threading.Lock()
        """Held to add, start, cancel and remove a job: what is interrupted is the job that was to be cancelled, never the next."""

    @contextmanager
    def running(self, told: Told) -> Iterator[None]:
        """What is inside is a job; it waits for its turn first.

        Raises:
            JobCancelledError: another thread cancelled it.
        """
        job = Job(told)
        with self._changing:
            self._jobs.append(job)
        try:
            with self._context.one_job:
                with self._changing:
                    job.is_running = job.cause is None
                if not job.is_running:
                    raise _cancelled(job)
                try:
                    yield
                except BaseException as error:
                    self._end(job, error)
                    raise
                self._end(job)
        finally:
            with self._changing:
                if job in self._jobs:
                    self._jobs.remove(job)

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        """From here on nobody cancels the job; if somebody did, its thread learns it."""
        with self._changing:
            self._jobs.remove(job)
        if job.cause is not None:
            self._context.recover()
            raise _cancelled(job) from error

    def until_cancelled(self, tasks: Iterable[T]) -> Iterator[T]:
        """The tasks of the job that runs; when it was cancelled, the error in place of the next.

        Raises:
            JobCancelledError: the job was cancelled.
        """
        for task in tasks:
            for job in self._jobs:
                if job.is_running and job.cause is not None:
                    raise _cancelled(job)
            yield task

    def cancel(self, cause: str, concerns: Callable[[Told], bool]) -> None:
        """Cancel the jobs that this concerns, whichever thread's they are."""
        with self._changing:
            cancelled = [job for job in self._jobs if concerns(job.told)]
            for job in cancelled:
                job.cause = cause
            if any(job.is_running for job in cancelled):
                self._context.interrupt()


class JobProperties:
    """What a context tells its jobs beside their work: properties, groups, tags; `LocalContext` inherits it.

    A job runs in the thread that called its action; another thread can cancel it by its group, by a tag, or with all others.
    """

    one_job: AbstractContextManager[object]
    """Held by the thread whose job runs."""

    def __init__(self) -> None:
        self._properties: dict[str, str] = {}
        self.jobs = Jobs(self)
        """Those that run or wait for their turn."""

    def interrupt(self) -> None:
        """End what the executors compute now."""
        raise NotImplementedError(type(self).__name__)

    def recover(self) -> None:
        """Have executors again in place of those that were ended."""
        raise NotImplementedError(type(self).__name__)

    def job(self) -> AbstractContextManager[None]:
        """What is inside is a job of the group and the tags that are set; it waits for its turn first.

        Raises:
            JobCancelledError: another thread cancelled it.
        """
        return self.jobs.running(Told(self.getLocalProperty(_GROUP_KEYS[0]), frozenset(self.getJobTags())))

    def setLocalProperty(self, key: str, value: str | None) -> None:
        """Set what `TaskContext.getLocalProperty` gives in the tasks of later jobs; None takes it away.

        Source: pyspark.SparkContext.setLocalProperty, where each thread has its own. Difference: properties are the context's; in
            PySpark each thread has its own.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.setLocalProperty("lang", "en")
            ...     sc.getLocalProperty("lang")
            'en'
        """
        if value is None:
            self._properties.pop(key, None)
        else:
            self._properties[key] = value

    def getLocalProperty(self, key: str) -> str | None:
        """The property, or None.

        Source: pyspark.SparkContext.getLocalProperty.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.getLocalProperty("lang") is None
            True
        """
        return self._properties.get(key)

    def setJobGroup(self, groupId: str, description: str, interruptOnCancel: bool = False) -> None:
        """Name the group of later jobs; tasks find it among their local properties.

        Source: pyspark.SparkContext.setJobGroup. Difference: the group is the context's; in PySpark each thread has its own.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.setJobGroup("g", "nightly")
            ...     sc.getLocalProperty("spark.jobGroup.id")
            'g'
        """
        for key, value in zip(
            _GROUP_KEYS, (groupId, description, str(interruptOnCancel).lower()), strict=True
        ):
            self.setLocalProperty(key, value)

    @contextmanager
    def job_group(self, groupId: str, description: str, interruptOnCancel: bool = False) -> Iterator[None]:
        """The jobs inside belong to the group, and those after it to the one before.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     with sc.job_group("g", "nightly"):
            ...         inside = sc.getLocalProperty("spark.jobGroup.id")
            ...     inside, sc.getLocalProperty("spark.jobGroup.id")
            ('g', None)
        """
        before = [self.getLocalProperty(key) for key in _GROUP_KEYS]
        self.setJobGroup(groupId, description, interruptOnCancel)
        try:
            yield
        finally:
            for key, value in zip(_GROUP_KEYS, before, strict=True):
                self.setLocalProperty(key, value)

    def setJobDescription(self, value: str) -> None:
        """Describe later jobs; tasks find it among their local properties.

        Source: pyspark.SparkContext.setJobDescription.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.setJobDescription("nightly")
            ...     sc.getLocalProperty("spark.job.description")
            'nightly'
        """
        self.setLocalProperty(_GROUP_KEYS[1], value)

    def setInterruptOnCancel(self, interruptOnCancel: bool) -> None:
        """Told to tasks.

        Source: pyspark.SparkContext.setInterruptOnCancel. Difference: what is cancelled is always interrupted, as far as it can be.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.setInterruptOnCancel(True)
            ...     sc.getLocalProperty("spark.job.interruptOnCancel")
            'true'
        """
        self.setLocalProperty(_GROUP_KEYS[2], str(interruptOnCancel).lower())

    def cancelJobGroup(self, groupId: str) -> None:
        """Cancel the jobs of the group that run or wait for their turn; their threads get a JobCancelledError.

        Source: pyspark.SparkContext.cancelJobGroup. Difference: executors that compute the job are replaced, so what they kept is
        computed again; with "local" the task that runs comes to its end, and no other begins.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.cancelJobGroup("nightly")
            ...     sc.range(3).count()
            3
        """
        self.jobs.cancel(f"part of cancelled job group {groupId}", lambda told: told.group == groupId)

    def cancelAllJobs(self) -> None:
        """Cancel all jobs, as `cancelJobGroup` does those of one.

        Source: pyspark.SparkContext.cancelAllJobs. Difference: as of `cancelJobGroup`.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.cancelAllJobs()
            ...     sc.range(3).count()
            3
        """
        self.jobs.cancel("part of a cancellation of all jobs", lambda _: True)

    def cancelJobsWithTag(self, tag: str) -> None:
        """Cancel the jobs that have the tag, as `cancelJobGroup` does those of a group.

        Source: pyspark.SparkContext.cancelJobsWithTag. Difference: as of `cancelJobGroup`.

        Raises:
            ConfigurationError: the tag is empty or holds a comma.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.cancelJobsWithTag("slow")
            ...     sc.range(3).count()
            3
        """
        _check_tag(tag)
        self.jobs.cancel(f"part of cancelled job tag {tag}", lambda told: tag in told.tags)

    def addJobTag(self, tag: str) -> None:
        """Put a tag on later jobs.

        Raises:
            ConfigurationError: the tag is empty or holds a comma.

        Source: pyspark.SparkContext.addJobTag.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.addJobTag("slow")
            ...     sc.getJobTags()
            {'slow'}
        """
        _check_tag(tag)
        self._set_tags({*self.getJobTags(), tag})

    def removeJobTag(self, tag: str) -> None:
        """Take a tag off later jobs.

        Source: pyspark.SparkContext.removeJobTag.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.addJobTag("slow")
            ...     sc.removeJobTag("slow")
            ...     sc.getJobTags()
            set()
        """
        self._set_tags(self.getJobTags() - {tag})

    def getJobTags(self) -> set[str]:
        """The tags of later jobs.

        Source: pyspark.SparkContext.getJobTags.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.getJobTags()
            set()
        """
        return set(filter(None, (self.getLocalProperty("spark.job.tags") or "").split(",")))

    def clearJobTags(self) -> None:
        """Take all tags off later jobs.

        Source: pyspark.SparkContext.clearJobTags.

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.addJobTag("slow")
            ...     sc.clearJobTags()
            ...     sc.getJobTags()
            set()
        """
        self._set_tags(set())

    def _set_tags(self, tags: set[str]) -> None:
        self.setLocalProperty("spark.job.tags", ",".join(sorted(tags)) or None)

    def statusTracker(self) -> NoReturn:
        """There is none here; the engine's listeners and metrics tell what runs.

        Raises:
            ConfigurationError: always.

        Source: pyspark.SparkContext.statusTracker.
        """
        raise only_on_spark("statusTracker")


def _check_tag(tag: str) -> None:
    if not tag or "," in tag:
        raise ConfigurationError(f"job tag {tag!r} is empty or holds a comma; give a word")


def _cancelled(job: Job) -> JobCancelledError:
    return JobCancelledError(f"the job was cancelled: {job.cause}")
