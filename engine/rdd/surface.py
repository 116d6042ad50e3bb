"""Two parts of PySpark's SparkContext: files as RDDs, and what jobs are told.

Owns: JobProperties, Reading.
Never: a stage; all of it stands on `parallelize` and on what RDDs offer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NoReturn

from engine.errors import ConfigurationError
from engine.rdd.api import RDD, T
from engine.rdd.paths import found_files, only_on_spark
from engine.rdd.reading import (
    FileRange,
    checked_length,
    lines_of,
    numbered_lines_of,
    ranges_of,
    raw_lines_of,
    records_of,
    whole_bytes,
    whole_raw,
    whole_text,
)
from engine.rdd.sequence import pairs_of, unpacked

_GROUP_KEYS: Final = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
_TEXT_INPUT: Final = (
    "org.apache.hadoop.mapred.TextInputFormat",
    "org.apache.hadoop.mapreduce.lib.input.TextInputFormat",
)
_SEQUENCE_INPUT: Final = (
    "org.apache.hadoop.mapred.SequenceFileInputFormat",
    "org.apache.hadoop.mapreduce.lib.input.SequenceFileInputFormat",
)


class JobProperties:
    """What a context tells its jobs beside their work: properties, groups, tags; `LocalContext` inherits it.

    A job runs in the thread that called its action and is over when the action returns. So a group can be named, and tasks see
    it among their local properties, but there is never a job that `cancelJobGroup` could still reach.
    """

    def __init__(self) -> None:
        self._properties: dict[str, str] = {}

    def setLocalProperty(self, key: str, value: str | None) -> None:
        """Set what `TaskContext.getLocalProperty` gives in the tasks of later jobs; None takes it away.

        Source: pyspark.SparkContext.setLocalProperty, where each thread has its own.
        """
        if value is None:
            self._properties.pop(key, None)
        else:
            self._properties[key] = value

    def getLocalProperty(self, key: str) -> str | None:
        """The property, or None.

        Source: pyspark.SparkContext.getLocalProperty.
        """
        return self._properties.get(key)

    def setJobGroup(self, groupId: str, description: str, interruptOnCancel: bool = False) -> None:
        """Name the group of later jobs; tasks find it among their local properties.

        Source: pyspark.SparkContext.setJobGroup.
        """
        for key, value in zip(
            _GROUP_KEYS, (groupId, description, str(interruptOnCancel).lower()), strict=True
        ):
            self.setLocalProperty(key, value)

    @contextmanager
    def job_group(self, groupId: str, description: str, interruptOnCancel: bool = False) -> Iterator[None]:
        """The jobs inside belong to the group, and those after it to the one before."""
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
        """
        self.setLocalProperty(_GROUP_KEYS[1], value)

    def setInterruptOnCancel(self, interruptOnCancel: bool) -> None:
        """Accepted, and told to tasks; there is no job that could be cancelled.

        Source: pyspark.SparkContext.setInterruptOnCancel.
        """
        self.setLocalProperty(_GROUP_KEYS[2], str(interruptOnCancel).lower())

    def cancelJobGroup(self, groupId: str) -> None:
        """Accepted; the group's jobs are over: they ran in the threads that called their actions.

        Source: pyspark.SparkContext.cancelJobGroup.
        """

    def cancelAllJobs(self) -> None:
        """Accepted, as `cancelJobGroup`.

        Source: pyspark.SparkContext.cancelAllJobs.
        """

    def cancelJobsWithTag(self, tag: str) -> None:
        """Accepted, as `cancelJobGroup`.

        Source: pyspark.SparkContext.cancelJobsWithTag.
        """

    def addJobTag(self, tag: str) -> None:
        """Put a tag on later jobs.

        Raises:
            ConfigurationError: the tag is empty or holds a comma.

        Source: pyspark.SparkContext.addJobTag.
        """
        if not tag or "," in tag:
            raise ConfigurationError(f"job tag {tag!r} is empty or holds a comma; give a word")
        self._set_tags({*self.getJobTags(), tag})

    def removeJobTag(self, tag: str) -> None:
        """Take a tag off later jobs.

        Source: pyspark.SparkContext.removeJobTag.
        """
        self._set_tags(self.getJobTags() - {tag})

    def getJobTags(self) -> set[str]:
        """The tags of later jobs.

        Source: pyspark.SparkContext.getJobTags.
        """
        return set(filter(None, (self.getLocalProperty("spark.job.tags") or "").split(",")))

    def clearJobTags(self) -> None:
        """Take all tags off later jobs.

        Source: pyspark.SparkContext.clearJobTags.
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


class Reading:
    """Files as RDDs; `LocalContext` inherits it."""

    @property
    def defaultParallelism(self) -> int:
        """Number of tasks that run at the same time."""
        raise NotImplementedError(type(self).__name__)

    def parallelize(self, c: Iterable[T], numSlices: int | None = None) -> RDD[T]:
        """The elements as an RDD of that many partitions."""
        raise NotImplementedError(type(self).__name__)

    @property
    def defaultMinPartitions(self) -> int:
        """How many partitions a file has at least, where nothing is said: 2, or 1 where one task runs at a time.

        Source: pyspark.SparkContext.defaultMinPartitions.
        """
        return min(self.defaultParallelism, 2)

    def textFile(self, name: str, minPartitions: int | None = None, use_unicode: bool = True) -> RDD[str]:
        r"""The lines of files; compressed files (.gz, .bz2, .deflate) are one partition each, others are cut into byte ranges.

        Args:
            name: a file, a folder or a pattern, or several with commas between them.
            minPartitions: about how many partitions; `defaultMinPartitions` when None.
            use_unicode: whether lines are str; else they are bytes.

        Raises:
            SourceError: there is no such file, now.

        Source: pyspark.SparkContext.textFile, where a missing file is an error of the first action.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a.txt").write_text("one\ntwo\n")
            ...     sc.textFile(f"{folder}/*.txt").collect()
            ['one', 'two']
        """
        ranges = ranges_of(found_files(name), self._parts(minPartitions))
        read: Callable[[Iterator[FileRange]], Iterable[Any]] = lines_of if use_unicode else raw_lines_of
        return self._each(ranges).mapPartitions(read)

    def wholeTextFiles(
        self, path: str, minPartitions: int | None = None, use_unicode: bool = True
    ) -> RDD[tuple[str, str]]:
        """A pair of name and text for each file; the name begins with "file:", and files are decompressed.

        Raises:
            SourceError: there is no such file, now.

        Source: pyspark.SparkContext.wholeTextFiles.
        """
        read: Callable[[Iterator[str]], Iterable[Any]] = whole_text if use_unicode else whole_raw
        return self._files(path, minPartitions).mapPartitions(read)

    def binaryFiles(self, path: str, minPartitions: int | None = None) -> RDD[tuple[str, bytes]]:
        """A pair of name and bytes for each file; the name begins with "file:".

        Raises:
            SourceError: there is no such file, now.

        Source: pyspark.SparkContext.binaryFiles.
        """
        return self._files(path, minPartitions).mapPartitions(whole_bytes)

    def binaryRecords(self, path: str, recordLength: int) -> RDD[bytes]:
        """The records of files, which all have the same length.

        Args:
            path: a file, a folder or a pattern, or several with commas between them.
            recordLength: bytes, > 0.

        Raises:
            SourceError: there is no such file, now; or, in a task, a file ends within a record.

        Source: pyspark.SparkContext.binaryRecords.
        """
        length = checked_length(recordLength)
        ranges = ranges_of(found_files(path), self.defaultMinPartitions, length)
        return self._each(ranges).mapPartitions(partial(records_of, length))

    def pickleFile(self, name: str, minPartitions: int | None = None) -> RDD[Any]:
        """The elements that `saveAsPickleFile` wrote, here or in PySpark; a file is read by one task.

        What is in a pickle runs when it is read: name only files that you trust.

        Raises:
            SourceError: there is no such file, now.

        Source: pyspark.SparkContext.pickleFile.
        """
        return self._files(name, minPartitions).mapPartitions(_unpickled)

    def sequenceFile(
        self,
        path: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        minSplits: int | None = None,
        batchSize: int = 0,
    ) -> RDD[tuple[Any, Any]]:
        """The pairs of sequence files; a file is read by one task.

        What `keyClass`, `valueClass` and `batchSize` say is not looked at: the file tells its classes, and nothing crosses to a JVM.

        Raises:
            SourceError: there is no such file, now.
            ConfigurationError: a converter is named: those are Java, and need Spark.

        Source: pyspark.SparkContext.sequenceFile.
        """
        del keyClass, valueClass, batchSize
        for converter in filter(None, (keyConverter, valueConverter)):
            raise only_on_spark(f"the converter {converter}")
        return self._files(path, minSplits).mapPartitions(pairs_of)

    def hadoopFile(
        self,
        path: str,
        inputFormatClass: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        batchSize: int = 0,
    ) -> RDD[tuple[Any, Any]]:
        """The pairs of files in one of Hadoop's formats: TextInputFormat (position, line) or SequenceFileInputFormat.

        Raises:
            ConfigurationError: the format is another, or a converter is named: those are Java, and need Spark.

        Source: pyspark.SparkContext.hadoopFile.
        """
        del conf
        if inputFormatClass in _SEQUENCE_INPUT:
            return self.sequenceFile(
                path, keyClass, valueClass, keyConverter, valueConverter, None, batchSize
            )
        if inputFormatClass not in _TEXT_INPUT or keyConverter or valueConverter:
            raise only_on_spark(f"inputFormatClass {inputFormatClass}")
        ranges = ranges_of(found_files(path), self.defaultMinPartitions)
        return self._each(ranges).mapPartitions(numbered_lines_of)

    newAPIHadoopFile = hadoopFile

    def hadoopRDD(self, inputFormatClass: str, *_: Any, **__: Any) -> NoReturn:
        """Reading by a job's configuration needs Hadoop.

        Raises:
            ConfigurationError: always.

        Source: pyspark.SparkContext.hadoopRDD.
        """
        raise only_on_spark(f"hadoopRDD of {inputFormatClass}")

    newAPIHadoopRDD = hadoopRDD

    def _parts(self, wanted: int | None) -> int:
        return self.defaultMinPartitions if wanted is None else wanted

    def _each(self, ranges: Sequence[T]) -> RDD[T]:
        """One partition a range."""
        return self.parallelize(ranges, max(len(ranges), 1))

    def _files(self, path: str, parts: int | None) -> RDD[str]:
        names = [str(found) for found in found_files(path)]
        return self.parallelize(names, max(1, min(len(names), self._parts(parts))))


def _unpickled(paths: Iterable[str]) -> Iterator[Any]:
    return unpacked(pairs_of(paths))
