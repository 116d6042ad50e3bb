"""Outputs: what is done with each batch of a stream.

A batch's outputs run one after another in the order in which they were made. When one fails, those after it do not run, the batch is
not committed and the context ends with the error; the next start runs the batch again, all of its outputs, with the same elements.
So no output is ever lost (Spark loses one when a later output of its batch succeeds), and each must be safe to repeat. With
`onFailure=Retry(n)` a failed output runs again in place up to n times before that, and so does a stateful operator that all its outputs
allow to.

Owns: OutputOperations.
Never: a computation; the nodes do that.
"""

from collections.abc import Callable, Mapping
from typing import Any

from engine.batch import Time
from engine.dstream.handle import Handle
from engine.dstream.nodes import ForEachDStream
from engine.dstream.policy import STOP, OnFailure, Retry, retry_of
from engine.dstream.signatures import with_time
from engine.rdd.api import RDD, InfersClasses, OutputFolders, T

_TEXT_OUTPUT = "org.apache.hadoop.mapred.TextOutputFormat"
_NEW_TEXT_OUTPUT = "org.apache.hadoop.mapreduce.lib.output.TextOutputFormat"


class OutputOperations(Handle[T]):
    """What a batch's elements are put to."""

    def foreachRDD(
        self, func: Callable[..., object], *, name: str | None = None, onFailure: OnFailure = "stop"
    ) -> None:
        """An output: call the function with each batch's RDD; `func` takes (rdd) or (time, rdd) and runs in the driver.

        Elements: DStream[T] -> nothing; what `func` returns is ignored.
        Replay: a batch that was cut off calls it again: its effect must be safe to repeat.

        Args:
            func: counted as a caller sees it: partials, bound methods, callable objects and defaults work.
            name: of the output, as listeners and pages tell it; the lineage when not given.
            onFailure: "stop" ends the stream with the error of a run that failed; `Retry(n)` runs the output again in place up to n
                times first, with pauses that grow, while the batch stays where it is and no other begins. A state that the output
                is made of and whose function failed runs again as often, unless another output of it allows fewer. A dead executor
                is no failure of the output: its batch runs again as a whole.

        Raises:
            ConfigurationError: `func` takes neither one nor two arguments, or the policy is none.

        Example:
            >>> from engine.testing import run_batches
            >>> seen = []
            >>> def keep(stream):
            ...     stream.foreachRDD(lambda rdd: seen.append(rdd.count()))
            ...     return stream
            >>> _ = run_batches(keep, [[1, 2], [3]])
            >>> seen
            [2, 1]

        Source: `pyspark.streaming.DStream.foreachRDD`. Difference: PySpark fails when a batch with elements makes it return
            something.
        """
        policy = retry_of("foreachRDD", onFailure)
        self._output("foreachRDD", with_time(func, "foreachRDD"), name, policy)

    def _output(
        self,
        label: str,
        function: Callable[[Time, RDD[Any]], object],
        name: str | None,
        policy: Retry = STOP,
    ) -> None:
        ForEachDStream(self._scope, self.node, function, label, name, policy)

    def pprint(self, num: int = 10, *, name: str | None = None) -> None:
        """An output: print the first elements of each batch, in PySpark's format.

        Elements: DStream[T] -> lines of text; empty batches print their time too.

        Args:
            num: number of elements.
            name: of the output.

        Example:
            >>> from engine.testing import run_batches
            >>> from engine.batch import Time
            >>> _ = run_batches(lambda s: s.pprint() or s, [[1, 2]])  # doctest: +ELLIPSIS
            -------------------------------------------
            Time: ...
            -------------------------------------------
            1
            2
            <BLANKLINE>

        Source: `pyspark.streaming.DStream.pprint`.
        """
        self._output("pprint", lambda time, rdd: _show(str(time.as_datetime()), rdd, num), name)

    def print(self, num: int = 10, *, name: str | None = None) -> None:
        """An output: print the first elements of each batch, in Scala's format.

        Elements: DStream[T] -> lines of text; empty batches print their time too.

        Args:
            num: number of elements.
            name: of the output.

        Example:
            >>> from engine.testing import run_batches
            >>> _ = run_batches(lambda s: s.print() or s, [[1, 2]])
            -------------------------------------------
            Time: 1000000001000 ms
            -------------------------------------------
            1
            2
            <BLANKLINE>

        Source: `DStream.print` of Scala.
        """
        self._output("print", lambda time, rdd: _show(f"{int(time)} ms", rdd, num), name)

    # Files: one folder a batch.

    def saveAsTextFiles(self, prefix: str, suffix: str | None = None, *, name: str | None = None) -> None:
        r"""An output: write each batch as text, one line an element, `str` of it.

        Elements: DStream[T] -> a folder `prefix-<batch time in ms>[.suffix]` with a file for each partition, for empty batches too.
        Replay: a batch that runs again writes the same folder anew.

        Args:
            prefix: path of the folders up to the time.
            suffix: what comes after the time and a dot; nothing when not given.
            name: of the output.

        Example:
            >>> import pathlib, tempfile
            >>> from engine.testing import run_batches
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = run_batches(lambda s: s.saveAsTextFiles(f"{folder}/words", "txt") or s, [["a", "b"]])
            ...     pathlib.Path(f"{folder}/words-1000000001000.txt/part-00000").read_text()
            'a\nb\n'

        Source: `pyspark.streaming.DStream.saveAsTextFiles`. Difference: PySpark leaves the folder of a batch that was cut off as it
            is, half written.
        """
        self._saved("saveAsTextFiles", (prefix, suffix), lambda rdd, path: rdd.saveAsTextFile(path), name)

    def saveAsPickleFiles(self, prefix: str, suffix: str | None = None, *, name: str | None = None) -> None:
        """An output: write each batch as pickled elements, which `sc.pickleFile` reads.

        Elements: DStream[T] -> folders as of `saveAsTextFiles`, with its arguments.
        Replay: as `saveAsTextFiles`.

        Example:
            >>> import pathlib, tempfile
            >>> from engine.testing import run_batches
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = run_batches(lambda s: s.saveAsPickleFiles(f"{folder}/words") or s, [[("a", 1)]])
            ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
            ['words-1000000001000']

        Source: `pyspark.RDD.saveAsPickleFile`. Difference: neither PySpark, whose own is commented out, nor Scala has it on streams.
        """
        self._saved("saveAsPickleFiles", (prefix, suffix), lambda rdd, path: rdd.saveAsPickleFile(path), name)

    def saveAsObjectFiles(self, prefix: str, suffix: str | None = None, *, name: str | None = None) -> None:
        """An output: write each batch as serialised objects; Python's are pickled, so it is saveAsPickleFiles under Scala's name.

        Elements: DStream[T] -> folders as of `saveAsTextFiles`, with its arguments.
        Replay: as `saveAsTextFiles`.

        Example:
            >>> import pathlib, tempfile
            >>> from engine.testing import run_batches
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = run_batches(lambda s: s.saveAsObjectFiles(f"{folder}/words", "bin") or s, [[("a", 1)]])
            ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
            ['words-1000000001000.bin']

        Source: `DStream.saveAsObjectFiles` of Scala. Difference: objects are pickled, where Scala writes those of Java.
        """
        self._saved("saveAsObjectFiles", (prefix, suffix), lambda rdd, path: rdd.saveAsPickleFile(path), name)

    def saveAsHadoopFiles(
        self,
        prefix: str,
        suffix: str | None = None,
        outputFormatClass: str = _TEXT_OUTPUT,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        compressionCodecClass: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """An output: write each batch's pairs with a Hadoop output format of the old API (org.apache.hadoop.mapred).

        Elements: DStream[tuple[K, V]] -> a folder `prefix-<batch time in ms>[.suffix]`, for empty batches too.
        Replay: a batch that runs again writes the same folder anew.

        Args:
            prefix: path of the folders up to the time.
            suffix: what comes after the time and a dot; nothing when not given.
            outputFormatClass: full name of the format; text with a tab between key and value when not given.
            keyClass: full name of the key's Writable class; found from the elements when not given, which on Spark costs a job.
            valueClass: likewise of the value.
            keyConverter: full name of a class that converts keys, on Spark.
            valueConverter: likewise of values.
            conf: Hadoop settings.
            compressionCodecClass: full name of a codec.
            name: of the output.

        Raises:
            ConfigurationError: the embedded backend has no writer for the format; it names those it has.

        Example:
            >>> import pathlib, tempfile
            >>> from engine.testing import run_batches
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = run_batches(lambda s: s.saveAsHadoopFiles(f"{folder}/counts", "out") or s, [[("a", 1)]])
            ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
            ['counts-1000000001000.out']

        Source: `PairDStreamFunctions.saveAsHadoopFiles` of Scala; the RDD's `saveAsHadoopFile` does the work.
        """

        def save(rdd: RDD[Any], path: str) -> None:
            classes = self._classes(rdd, keyClass, valueClass)
            converters = (keyConverter, valueConverter)
            rdd.saveAsHadoopFile(
                path, outputFormatClass, *classes, *converters, _plain(conf), compressionCodecClass
            )

        self._saved("saveAsHadoopFiles", (prefix, suffix), save, name)

    def saveAsNewAPIHadoopFiles(
        self,
        prefix: str,
        suffix: str | None = None,
        outputFormatClass: str = _NEW_TEXT_OUTPUT,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """An output: write each batch's pairs with a Hadoop output format of the new API (org.apache.hadoop.mapreduce).

        Elements: DStream[tuple[K, V]] -> folders as of `saveAsHadoopFiles`, with its arguments but for the codec, which `conf` names.
        Replay: as `saveAsHadoopFiles`.

        Raises:
            ConfigurationError: the embedded backend has no writer for the format; it names those it has.

        Example:
            >>> import pathlib, tempfile
            >>> from engine.testing import run_batches
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = run_batches(lambda s: s.saveAsNewAPIHadoopFiles(f"{folder}/counts") or s, [[("a", 1)]])
            ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
            ['counts-1000000001000']

        Source: `PairDStreamFunctions.saveAsNewAPIHadoopFiles` of Scala; the RDD's `saveAsNewAPIHadoopFile` does the work.
        """

        def save(rdd: RDD[Any], path: str) -> None:
            classes = self._classes(rdd, keyClass, valueClass)
            converters = (keyConverter, valueConverter)
            rdd.saveAsNewAPIHadoopFile(path, outputFormatClass, *classes, *converters, _plain(conf))

        self._saved("saveAsNewAPIHadoopFiles", (prefix, suffix), save, name)

    def _classes(self, rdd: RDD[Any], key: str | None, value: str | None) -> tuple[str | None, str | None]:
        context = self._scope.context
        if isinstance(context, InfersClasses) and None in {key, value} and rdd.isEmpty():
            return (key or context.class_of_nothing, value or context.class_of_nothing)
        return (key, value)

    def _saved(
        self,
        label: str,
        place: tuple[str, str | None],
        save: Callable[[RDD[Any], str], object],
        name: str | None,
    ) -> None:
        context = self._scope.context
        if isinstance(context, OutputFolders):
            context.checkOutput(_folder(*place, Time(0)))

        def write(time: Time, rdd: RDD[Any]) -> None:
            path = _folder(*place, time)
            if isinstance(context, OutputFolders):
                # A run of the same batch that was cut off may have left it; the folder of another batch has another name.
                context.removeOutput(path)
            save(rdd, path)

        self._output(label, write, name)


def _folder(prefix: str, suffix: str | None, time: Time) -> str:
    return "".join([f"{prefix}-" if prefix else "", str(int(time)), f".{suffix}" if suffix else ""])


def _plain(conf: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if conf is None else dict(conf)


def _show(time: str, rdd: RDD[Any], num: int) -> None:
    taken = rdd.take(num + 1)
    lines = ["-" * 43, f"Time: {time}", "-" * 43, *map(str, taken[:num])]
    print("\n".join([*lines, *(["..."] if len(taken) > num else []), ""]))  # noqa: T201  printing is its purpose
