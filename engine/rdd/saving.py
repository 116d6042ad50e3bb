"""How an RDD becomes files: Hadoop's folder of parts, there as a whole or not at all.

Tasks write `part-00000`, `part-00001` ... into a hidden folder beside the target, each under a temporary name first; `_SUCCESS` comes
last, and then the folder takes the target's name. What a failed or repeated task leaves behind is written over, and
who sees the target sees all of it.

Owns: Saving.
Never: a target that exists; a file that is seen half written.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigurationError, SinkError
from engine.rdd.actions import Actions
from engine.rdd.api import T
from engine.rdd.paths import Codec, codec_of_class, file_uri, local_path, only_on_spark
from engine.rdd.sequence import BYTES, NULL, encoded_file, packed, writable_named, writable_of

_CHUNK_BYTES: Final = 1 << 18
TEXT_OUTPUT: Final = (
    "org.apache.hadoop.mapred.TextOutputFormat",
    "org.apache.hadoop.mapreduce.lib.output.TextOutputFormat",
)
SEQUENCE_OUTPUT: Final = (
    "org.apache.hadoop.mapred.SequenceFileOutputFormat",
    "org.apache.hadoop.mapreduce.lib.output.SequenceFileOutputFormat",
)
_FORMAT_KEYS: Final = ("mapreduce.job.outputformat.class", "mapred.output.format.class")
_FOLDER_KEYS: Final = ("mapreduce.output.fileoutputformat.outputdir", "mapred.output.dir")
_COMPRESS_KEYS: Final = ("mapreduce.output.fileoutputformat.compress", "mapred.output.compress")
_CODEC_KEYS: Final = ("mapreduce.output.fileoutputformat.compress.codec", "mapred.output.compression.codec")


class Saving(Actions[T]):
    """What writes an RDD to files of this machine; `LocalRDD` inherits it."""

    def saveAsTextFile(self, path: str, compressionCodecClass: str | None = None) -> None:
        """Write each element as a line: bytes as they are, all else as its str in UTF-8; one file a partition.

        Elements: RDD[T] -> path/part-00000 ... and path/_SUCCESS.
        Replay: a target that is there is complete; a job that fails leaves none.

        Args:
            path: a folder that is not there yet.
            compressionCodecClass: Hadoop's class of gzip, bzip2 or deflate.

        Raises:
            SinkError: the folder is there.
            ConfigurationError: the path is not on this machine, or the codec is not known here.

        Source: pyspark.RDD.saveAsTextFile; a line end in an element is not escaped, as there.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.parallelize(["a", "b", "c"], 2).saveAsTextFile(f"{folder}/letters")
            ...     sc.textFile(f"{folder}/letters").collect()
            ['a', 'b', 'c']
        """
        codec = codec_of_class(compressionCodecClass)
        self._save(path, codec.suffix, partial(_text_file, codec))

    def saveAsPickleFile(self, path: str, batchSize: int = 10) -> None:
        """Write the elements as a pickle file, which `pickleFile` reads, here and in PySpark.

        Elements: RDD[T] -> path/part-00000 ... and path/_SUCCESS.
        Replay: as `saveAsTextFile`.

        Args:
            path: a folder that is not there yet.
            batchSize: how many elements are pickled together; 0 for a size that this backend chooses.

        Source: pyspark.RDD.saveAsPickleFile; the files are the same, class by class and byte by byte but for the sync.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.parallelize([1, "two", (3, None)], 2).saveAsPickleFile(f"{folder}/kept")
            ...     sc.pickleFile(f"{folder}/kept").collect()
            [1, 'two', (3, None)]
        """
        self._save(path, "", partial(_pickle_file, batchSize if batchSize > 0 else 100))

    def saveAsSequenceFile(self, path: str, compressionCodecClass: str | None = None) -> None:
        """Write the pairs as a sequence file of Hadoop; the types of the first pair are those of all.

        Elements: RDD[tuple[K, V]] -> path/part-00000 ... and path/_SUCCESS; K and V of None, bool, int, float, str, bytes.
        Replay: as `saveAsTextFile`.

        Raises:
            ConfigurationError: a key or a value is of another type.

        Source: pyspark.RDD.saveAsSequenceFile.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1), ("b", 2)]).saveAsSequenceFile(f"{folder}/pairs")
            ...     sc.sequenceFile(f"{folder}/pairs").collect()
            [('a', 1), ('b', 2)]
        """
        codec_of_class(compressionCodecClass)
        pairs = self.take(1)
        key, value = pairs[0] if pairs else (None, None)  # type: ignore[misc]  # elements of this RDD are pairs
        names = (writable_of(key).name, writable_of(value).name)
        self._save(path, "", partial(_sequence_file, names, compressionCodecClass))

    def saveAsHadoopFile(
        self,
        path: str,
        outputFormatClass: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
        compressionCodecClass: str | None = None,
    ) -> None:
        r"""Write the pairs in one of Hadoop's formats: TextOutputFormat (key, tab, value) or SequenceFileOutputFormat.

        Elements: RDD[tuple[K, V]] -> path/part-00000 ... and path/_SUCCESS.
        Replay: as `saveAsTextFile`.

        What `keyClass` and `valueClass` say is not looked at: keys and values are written as PySpark converts them by itself.

        Raises:
            ConfigurationError: the format is another, or a converter is named: those are Java, and need Spark.

        Source: pyspark.RDD.saveAsHadoopFile.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     sc.parallelize([("a", 1)]).saveAsHadoopFile(
            ...         f"{folder}/pairs", "org.apache.hadoop.mapred.TextOutputFormat"
            ...     )
            ...     sc.textFile(f"{folder}/pairs").collect()
            ['a\t1']
        """
        del keyClass, valueClass
        for converter in filter(None, (keyConverter, valueConverter)):
            raise only_on_spark(f"the converter {converter}")
        codec_class = compressionCodecClass or _codec_in(conf or {})
        if outputFormatClass in SEQUENCE_OUTPUT:
            self.saveAsSequenceFile(path, codec_class)
        elif outputFormatClass in TEXT_OUTPUT:
            codec = codec_of_class(codec_class)
            self._save(path, codec.suffix, partial(_pair_file, codec))
        else:
            raise only_on_spark(f"outputFormatClass {outputFormatClass}")

    def saveAsNewAPIHadoopFile(
        self,
        path: str,
        outputFormatClass: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: Mapping[str, str] | None = None,
    ) -> None:
        r"""As `saveAsHadoopFile`, with Hadoop's newer names of the formats.

        Elements: RDD[tuple[K, V]] -> path/part-00000 ... and path/_SUCCESS.
        Replay: as `saveAsTextFile`.

        Source: pyspark.RDD.saveAsNewAPIHadoopFile, whose files are named part-r-00000.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     pairs, name = sc.parallelize([("a", 1)]), "org.apache.hadoop.mapreduce.lib.output.TextOutputFormat"
            ...     pairs.saveAsNewAPIHadoopFile(f"{folder}/out", name)
            ...     sc.textFile(f"{folder}/out").collect()
            ['a\t1']
        """
        self.saveAsHadoopFile(
            path, outputFormatClass, keyClass, valueClass, keyConverter, valueConverter, conf
        )

    def saveAsHadoopDataset(
        self,
        conf: Mapping[str, str],
        keyConverter: str | None = None,
        valueConverter: str | None = None,
    ) -> None:
        r"""As `saveAsHadoopFile`, with the format and the folder from a job's configuration.

        Elements: RDD[tuple[K, V]] -> path/part-00000 ... and path/_SUCCESS.
        Replay: as `saveAsTextFile`.

        Raises:
            ConfigurationError: the configuration names no folder.

        Source: pyspark.RDD.saveAsHadoopDataset.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     conf = {"mapreduce.output.fileoutputformat.outputdir": f"{folder}/out"}
            ...     sc.parallelize([("a", 1)]).saveAsHadoopDataset(conf)
            ...     sc.textFile(f"{folder}/out").collect()
            ['a\t1']
        """
        path = _first_of(conf, _FOLDER_KEYS)
        if path is None:
            raise ConfigurationError(f"conf names no folder; give {_FOLDER_KEYS[0]}")
        output = _first_of(conf, _FORMAT_KEYS) or TEXT_OUTPUT[0]
        self.saveAsHadoopFile(path, output, None, None, keyConverter, valueConverter, conf)

    def saveAsNewAPIHadoopDataset(
        self,
        conf: Mapping[str, str],
        keyConverter: str | None = None,
        valueConverter: str | None = None,
    ) -> None:
        r"""As `saveAsHadoopDataset`.

        Elements: RDD[tuple[K, V]] -> path/part-00000 ... and path/_SUCCESS.
        Replay: as `saveAsTextFile`.

        Source: pyspark.RDD.saveAsNewAPIHadoopDataset.

        Example:
            >>> import tempfile
            >>> from engine import LocalContext
            >>> with tempfile.TemporaryDirectory() as folder, LocalContext("local") as sc:
            ...     conf = {"mapreduce.output.fileoutputformat.outputdir": f"{folder}/out"}
            ...     sc.parallelize([("a", 1)]).saveAsNewAPIHadoopDataset(conf)
            ...     sc.textFile(f"{folder}/out").collect()
            ['a\t1']
        """
        self.saveAsHadoopDataset(conf, keyConverter, valueConverter)

    def _save(self, path: str, suffix: str, encode: Callable[[Iterator[Any]], Iterable[bytes]]) -> None:
        """Write a folder of parts: all of it under a hidden name, then its own."""
        target = local_path(path)
        if target.exists():
            raise _there(target)
        staging = target.parent / f".{target.name}._temporary"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            self.mapPartitionsWithIndex(partial(_write_part, str(staging), suffix, encode)).count()
            (staging / "_SUCCESS").touch()
            _sync(staging)
            _rename(staging, target)
            _sync(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _there(target: Path) -> SinkError:
    return SinkError(
        f"Output directory {file_uri(target)} already exists; name one that does not, or remove it"
    )


def _rename(staging: Path, target: Path) -> None:
    try:
        staging.rename(target)
    except OSError as cause:
        if target.exists():
            raise _there(target) from cause
        raise


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_part(
    folder: str,
    suffix: str,
    encode: Callable[[Iterator[Any]], Iterable[bytes]],
    index: int,
    elements: Iterator[Any],
) -> list[None]:
    """Write one part; nothing is left over for the driver."""
    part = Path(folder) / f"part-{index:05d}{suffix}"
    attempt = part.with_name(f"_{part.name}.{os.getpid()}")
    with attempt.open("wb") as file:
        file.writelines(encode(elements))
        file.flush()
        os.fsync(file.fileno())
    # AFTER the bytes are durable: a part has its name only when it is whole.
    attempt.rename(part)
    return []


def _compressed(codec: Codec, lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines in pieces of about a chunk, compressed."""
    compressor = codec.compressor()
    piece = bytearray()
    for line in lines:
        piece += line
        piece += b"\n"
        if len(piece) >= _CHUNK_BYTES:
            yield compressor.compress(bytes(piece))
            piece.clear()
    yield compressor.compress(bytes(piece)) + compressor.flush()


def _text_file(codec: Codec, elements: Iterator[Any]) -> Iterator[bytes]:
    return _compressed(
        codec, (element if isinstance(element, bytes) else str(element).encode() for element in elements)
    )


def _pair_file(codec: Codec, pairs: Iterator[tuple[Any, Any]]) -> Iterator[bytes]:
    return _compressed(codec, (b"\t".join(_words(pair)) for pair in pairs))


def _words(pair: tuple[Any, Any]) -> Iterator[bytes]:
    """Key and value as Hadoop's writables print themselves; None is left out."""
    for value in pair:
        if isinstance(value, bool):
            yield str(value).lower().encode()
        elif isinstance(value, bytes):
            yield value.hex(" ").encode()
        elif value is not None:
            yield str(value).encode()


def _pickle_file(batch_size: int, elements: Iterator[Any]) -> Iterator[bytes]:
    return encoded_file((NULL, BYTES), None, packed(batch_size, elements))


def _sequence_file(
    names: tuple[str, str], codec_class: str | None, pairs: Iterator[tuple[Any, Any]]
) -> Iterator[bytes]:
    # Classes travel by name: what encodes them has no name of its own.
    return encoded_file((writable_named(names[0]), writable_named(names[1])), codec_class, pairs)


def _first_of(conf: Mapping[str, str], keys: Iterable[str]) -> str | None:
    return next((conf[key] for key in keys if key in conf), None)


def _codec_in(conf: Mapping[str, str]) -> str | None:
    if str(_first_of(conf, _COMPRESS_KEYS)).lower() != "true":
        return None
    return _first_of(conf, _CODEC_KEYS) or "org.apache.hadoop.io.compress.DefaultCodec"
