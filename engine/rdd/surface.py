"""A part of PySpark's SparkContext: files as RDDs.

Owns: Reading.
Never: a stage; all of it stands on `parallelize` and on what RDDs offer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

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

_TEXT_INPUT: Final = (
    "org.apache.hadoop.mapred.TextInputFormat",
    "org.apache.hadoop.mapreduce.lib.input.TextInputFormat",
)
_SEQUENCE_INPUT: Final = (
    "org.apache.hadoop.mapred.SequenceFileInputFormat",
    "org.apache.hadoop.mapreduce.lib.input.SequenceFileInputFormat",
)


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

        Example:
            >>> from engine import LocalContext
            >>> with LocalContext("local") as sc:
            ...     sc.defaultMinPartitions
            1
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

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a.txt").write_text("one")
            ...     sc.wholeTextFiles(folder).values().collect()
            ['one']
        """
        read: Callable[[Iterator[str]], Iterable[Any]] = whole_text if use_unicode else whole_raw
        return self._files(path, minPartitions).mapPartitions(read)

    def binaryFiles(self, path: str, minPartitions: int | None = None) -> RDD[tuple[str, bytes]]:
        """A pair of name and bytes for each file; the name begins with "file:".

        Raises:
            SourceError: there is no such file, now.

        Source: pyspark.SparkContext.binaryFiles.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a").write_bytes(b"one")
            ...     sc.binaryFiles(folder).values().collect()
            [b'one']
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

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a").write_bytes(b"onetwo")
            ...     sc.binaryRecords(folder, 3).collect()
            [b'one', b'two']
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

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.parallelize([1, "two"]).saveAsPickleFile(f"{folder}/out")
            ...     sc.pickleFile(f"{folder}/out").collect()
            [1, 'two']
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

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1)]).saveAsSequenceFile(f"{folder}/out")
            ...     sc.sequenceFile(f"{folder}/out").collect()
            [('a', 1)]
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

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     _ = (Path(folder) / "a.txt").write_text("one two")
            ...     sc.hadoopFile(folder, "org.apache.hadoop.mapred.TextInputFormat").collect()
            [(0, 'one two')]
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
