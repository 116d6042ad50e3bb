"""Files: what is written is there as a whole or not at all, and what is read is every line once."""

import bz2
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import LocalContext
from engine.errors import ConfigurationError, SinkError, SourceError, UserFunctionError
from engine.rdd.reading import FileRange, numbered_lines_of, ranges_of, raw_lines_of
from engine.rdd.sequence import encoded_file, pairs_of, vint, writable_of

CODECS = {
    "org.apache.hadoop.io.compress.GzipCodec": (".gz", gzip.decompress),
    "org.apache.hadoop.io.compress.BZip2Codec": (".bz2", bz2.decompress),
    "org.apache.hadoop.io.compress.DefaultCodec": (".deflate", zlib.decompress),
}


def names(folder: Path) -> list[str]:
    """The files of a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


# Text.


def test_text_has_the_layout_of_hadoop(context: LocalContext, tmp_path: Path) -> None:
    """Each partition is a file of lines, an empty one too, and _SUCCESS tells that all are there."""
    context.parallelize(["a", b"b", None, 1.5, "é\nz"], 6).saveAsTextFile(str(tmp_path / "out"))

    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["_SUCCESS", *(f"part-{index:05d}" for index in range(6))]
    parts = [(tmp_path / "out" / f"part-{index:05d}").read_bytes() for index in range(6)]
    assert b"".join(parts) == "a\nb\nNone\n1.5\né\nz\n".encode()
    assert b"" in parts


@pytest.mark.parametrize("codec", CODECS)
def test_text_is_compressed_by_class(context: LocalContext, tmp_path: Path, codec: str) -> None:
    """The codecs of the standard library write files that it reads, and that textFile reads."""
    suffix, decompress = CODECS[codec]
    context.parallelize(["a", "b"], 2).saveAsTextFile(f"file://{tmp_path}/out", codec)

    assert decompress((tmp_path / "out" / f"part-00000{suffix}").read_bytes()) == b"a\n"
    assert context.textFile(f"file:{tmp_path}/out").collect() == ["a", "b"]


def test_other_codecs_name_the_spark_backend(context: LocalContext, tmp_path: Path) -> None:
    """A codec that is not here is refused before anything is written, with the backend that has it."""
    with pytest.raises(ConfigurationError, match=r"SnappyCodec .* needs the Spark backend"):
        context.parallelize([1]).saveAsTextFile(
            str(tmp_path / "out"), "org.apache.hadoop.io.compress.SnappyCodec"
        )
    assert names(tmp_path) == []


def test_other_file_systems_name_the_spark_backend(context: LocalContext) -> None:
    """A path on another file system is refused, for writing and for reading."""
    with pytest.raises(ConfigurationError, match="hdfs://name/out needs the Spark backend"):
        context.parallelize([1]).saveAsTextFile("hdfs://name/out")
    with pytest.raises(ConfigurationError, match="s3a://bucket/in needs the Spark backend"):
        context.textFile("s3a://bucket/in")


def test_folders_that_are_there_are_refused(context: LocalContext, tmp_path: Path) -> None:
    """Nothing is written over: the error has the words of Hadoop."""
    context.parallelize([1]).saveAsTextFile(str(tmp_path / "out"))

    with pytest.raises(SinkError, match=f"Output directory file:{tmp_path}/out already exists"):
        context.parallelize([2]).saveAsTextFile(str(tmp_path / "out"))
    assert context.textFile(str(tmp_path / "out")).collect() == ["1"]


def test_failed_jobs_leave_no_folder(context: LocalContext, tmp_path: Path) -> None:
    """A job that fails after it wrote some parts leaves nothing, and can be run again."""
    rdd = context.parallelize([1, 1, 0], 3)

    with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        rdd.map(lambda n: 1 // n).saveAsTextFile(str(tmp_path / "out"))
    assert names(tmp_path) == []

    rdd.saveAsTextFile(str(tmp_path / "out"))

    assert context.textFile(str(tmp_path / "out")).collect() == ["1", "1", "0"]


def test_what_a_killed_driver_left_is_written_over(context: LocalContext, tmp_path: Path) -> None:
    """The hidden folder of an attempt that was cut off is no obstacle, and none of its files get into the output."""
    staging = tmp_path / ".out._temporary"
    staging.mkdir()
    (staging / "part-00007").write_text("half")

    context.parallelize([1]).saveAsTextFile(str(tmp_path / "out"))

    assert names(tmp_path) == ["out"]
    assert context.textFile(str(tmp_path / "out")).collect() == ["1"]


def test_removed_outputs_can_be_written_again(context: LocalContext, tmp_path: Path) -> None:
    """A folder that the context removes is free, and one that is not there is removed without an error."""
    out = str(tmp_path / "out")
    context.parallelize([1]).saveAsTextFile(out)
    context.removeOutput(out)
    context.removeOutput(out)
    context.parallelize([2]).saveAsTextFile(out)

    assert context.textFile(out).collect() == ["2"]


def test_text_is_found_by_name_folder_and_pattern(context: LocalContext, tmp_path: Path) -> None:
    """A name stands for a file, a folder or a pattern, several stand with commas; hidden files are left out."""
    for name in ("a.txt", "b.txt", "c.log", "_hidden.txt", ".hidden.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "deeper").mkdir()

    assert context.textFile(str(tmp_path)).collect() == ["a.txt", "b.txt", "c.log"]
    assert context.textFile(f"{tmp_path}/[ab].txt").collect() == ["a.txt", "b.txt"]
    assert context.textFile(f"{tmp_path}/c.log,{tmp_path}/a.*").collect() == ["c.log", "a.txt"]
    with pytest.raises(SourceError, match=f"Input path does not exist: file:{tmp_path}/d.txt"):
        context.textFile(f"{tmp_path}/d.txt")


def test_compressed_text_is_not_cut(context: LocalContext, tmp_path: Path) -> None:
    """A compressed file is one partition, and a plain one as many as were asked for."""
    text = "".join(f"line {n}\n" for n in range(1_000))
    (tmp_path / "plain.txt").write_text(text)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(text.encode()))

    assert context.textFile(f"{tmp_path}/plain.txt", 4).getNumPartitions() == 4
    assert context.textFile(f"{tmp_path}/packed.txt.gz", 4).getNumPartitions() == 1
    for name in ("plain.txt", "packed.txt.gz"):
        assert context.textFile(f"{tmp_path}/{name}", 4).collect() == text.splitlines()


def test_bytes_that_are_no_text_survive_on_demand(context: LocalContext, tmp_path: Path) -> None:
    """A line that is not UTF-8 has replacement characters as str, and its own bytes without use_unicode."""
    (tmp_path / "mixed").write_bytes(b"\xef\xbb\xbffirst\r\n\xffsecond")

    assert context.textFile(f"{tmp_path}/mixed", 1).collect() == ["first", "\ufffdsecond"]
    assert context.textFile(f"{tmp_path}/mixed", 1, use_unicode=False).collect() == [b"first", b"\xffsecond"]


@pytest.mark.slow
@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n", b"\r\n", b"\r"]), max_size=40), st.integers(1, 9))
def test_every_line_belongs_to_one_range(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], parts: int
) -> None:
    """However a text is cut into ranges, their lines are the lines of the text, at their places."""
    path = tmp_path_factory.getbasetemp() / "ranges.txt"
    text = b"".join(pieces)
    path.write_bytes(text)
    ranges = ranges_of([path], parts)

    assert [part.begin for part in ranges[1:]] == [part.end for part in ranges[:-1]]
    assert list(raw_lines_of(ranges)) == [line.rstrip(b"\r\n") for line in text.splitlines(keepends=True)]
    for at, line in numbered_lines_of(ranges):
        assert text[at:].startswith(line.encode())


# Whole files and records.


def test_whole_files_come_with_their_names(context: LocalContext, tmp_path: Path) -> None:
    """Whole files are pairs of a file's name and its text or bytes, decompressed when they are read as text."""
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"three"))

    assert context.wholeTextFiles(str(tmp_path)).collect() == [
        (f"file:{tmp_path}/a.txt", "one\ntwo"),
        (f"file:{tmp_path}/b.gz", "three"),
    ]
    assert context.binaryFiles(str(tmp_path)).values().collect()[1].startswith(b"\x1f\x8b")
    assert context.wholeTextFiles(str(tmp_path), 1).getNumPartitions() == 1


def test_records_have_one_length(context: LocalContext, tmp_path: Path) -> None:
    """A file of records is cut between records only, and one that ends within a record is an error."""
    (tmp_path / "records").write_bytes(bytes(range(90)))

    assert context.binaryRecords(f"{tmp_path}/records", 9).collect() == [
        bytes(range(at, at + 9)) for at in range(0, 90, 9)
    ]
    with pytest.raises(SourceError, match=r"records ends within a record: 6 of 7 bytes"):
        context.binaryRecords(f"{tmp_path}/records", 7).collect()
    with pytest.raises(ConfigurationError, match="recordLength is 0"):
        context.binaryRecords(f"{tmp_path}/records", 0)


# Hadoop's formats.


@pytest.mark.parametrize("codec", [None, *CODECS])
@pytest.mark.parametrize(
    "pair", [("a", 1), (1, 2.5), (None, b"bytes"), (True, None), (2**40, "long"), ("", "é" * 200)]
)
def test_sequence_files_keep_their_pairs(
    context: LocalContext, tmp_path: Path, pair: tuple, codec: str | None
) -> None:
    """Pairs of each type come back from a sequence file as they were, compressed in blocks or not."""
    context.parallelize([pair] * 7, 2).saveAsSequenceFile(str(tmp_path / "out"), codec)

    assert context.sequenceFile(str(tmp_path / "out")).collect() == [pair] * 7


def test_sequence_files_have_one_type(context: LocalContext, tmp_path: Path) -> None:
    """A value of another type than the first, and a type that Hadoop has no plain class of, are refused."""
    with pytest.raises(ConfigurationError, match="make all keys, and all values, of one type"):
        context.parallelize([("a", 1), ("b", "two")], 1).saveAsSequenceFile(str(tmp_path / "out"))
    with pytest.raises(ConfigurationError, match=r"a sequence file of dict .* needs the Spark backend"):
        context.parallelize([("a", {})], 1).saveAsSequenceFile(str(tmp_path / "out"))
    assert names(tmp_path) == []


def test_files_that_are_no_sequence_files_are_refused(context: LocalContext, tmp_path: Path) -> None:
    """A text is no sequence file, and one that is cut off is refused at its end."""
    (tmp_path / "text").write_text("no sequence")
    classes = (writable_of("a"), writable_of(1))
    whole = b"".join(encoded_file(classes, None, [("a", 1), ("b", 2)]))
    (tmp_path / "cut").write_bytes(whole[:-1])

    with pytest.raises(SourceError, match="is not a sequence file of version 6"):
        context.sequenceFile(f"{tmp_path}/text").collect()
    with pytest.raises(SourceError, match="cut ends within a record"):
        list(pairs_of([str(tmp_path / "cut")]))


def test_long_sequence_files_have_syncs(tmp_path: Path) -> None:
    """A sync stands between records now and then, and readers pass over it."""
    pairs = [(n, b"x" * 1_000) for n in range(500)]
    data = b"".join(encoded_file((writable_of(0), writable_of(b"")), None, pairs))
    (tmp_path / "long").write_bytes(data)
    sync = data[data.index(b"\0\0" + bytes(4)) + 6 :][:16]

    assert data.count(b"\xff\xff\xff\xff" + sync) == 4
    assert list(pairs_of([str(tmp_path / "long")])) == pairs


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "00"), (127, "7f"), (-112, "90"), (128, "8f80"), (-113, "8770"), (2**31, "8c80000000")],
)
def test_numbers_of_variable_length(value: int, written: str) -> None:
    """Hadoop's integers of variable length have its bytes."""
    assert vint(value).hex() == written


def test_pickle_files_keep_elements_of_any_type(context: LocalContext, tmp_path: Path) -> None:
    """Elements of any type come back from a pickle file, however many are pickled together."""
    elements = [1, "two", (3, None), {"four": [5]}, 6.5, b"seven"] * 40
    for batch in (0, 1, 10, 1_000):
        context.parallelize(elements, 3).saveAsPickleFile(f"{tmp_path}/{batch}", batch)

        assert context.pickleFile(f"{tmp_path}/{batch}", 1).collect() == elements


def test_pickle_files_are_no_other_sequence_files(context: LocalContext, tmp_path: Path) -> None:
    """A sequence file without pickled elements is not read as a pickle file."""
    context.parallelize([(None, b"plain")], 1).saveAsSequenceFile(str(tmp_path / "out"))

    with pytest.raises(SourceError, match="read it with sequenceFile"):
        context.pickleFile(str(tmp_path / "out")).collect()


def test_hadoop_outputs_by_class(context: LocalContext, tmp_path: Path) -> None:
    """TextOutputFormat writes key, tab and value as Hadoop prints them, and leaves None out."""
    pairs = [("a", 1), (None, "x"), ("k", None), ("t", True), ("b", b"ab"), (1, 1.5)]
    context.parallelize(pairs, 1).saveAsHadoopFile(
        str(tmp_path / "old"), "org.apache.hadoop.mapred.TextOutputFormat"
    )
    context.parallelize(pairs, 1).saveAsNewAPIHadoopFile(
        str(tmp_path / "new"), "org.apache.hadoop.mapreduce.lib.output.TextOutputFormat"
    )

    lines = ["a\t1", "x", "k", "t\ttrue", "b\t61 62", "1\t1.5"]
    assert context.textFile(str(tmp_path / "old"), 1).collect() == lines
    assert context.textFile(str(tmp_path / "new"), 1).collect() == lines
    with pytest.raises(ConfigurationError, match=r"outputFormatClass x\.Parquet needs the Spark backend"):
        context.parallelize(pairs).saveAsHadoopFile(str(tmp_path / "other"), "x.Parquet")
    with pytest.raises(ConfigurationError, match=r"the converter x\.Keys needs the Spark backend"):
        context.parallelize(pairs).saveAsHadoopFile(
            str(tmp_path / "other"), "org.apache.hadoop.mapred.TextOutputFormat", keyConverter="x.Keys"
        )


def test_hadoop_outputs_by_configuration(context: LocalContext, tmp_path: Path) -> None:
    """A job's configuration names the folder, the format and the codec of an output."""
    rdd = context.parallelize([("a", 1)], 1)
    rdd.saveAsNewAPIHadoopDataset(
        {
            "mapreduce.job.outputformat.class": "org.apache.hadoop.mapreduce.lib.output.SequenceFileOutputFormat",
            "mapreduce.output.fileoutputformat.outputdir": f"file://{tmp_path}/pairs",
        }
    )
    rdd.saveAsHadoopDataset(
        {
            "mapred.output.dir": f"{tmp_path}/text",
            "mapred.output.compress": "true",
            "mapred.output.compression.codec": "org.apache.hadoop.io.compress.GzipCodec",
        }
    )

    assert context.sequenceFile(f"{tmp_path}/pairs").collect() == [("a", 1)]
    assert gzip.decompress((tmp_path / "text" / "part-00000.gz").read_bytes()) == b"a\t1\n"
    with pytest.raises(ConfigurationError, match="conf names no folder"):
        rdd.saveAsHadoopDataset({})


def test_hadoop_inputs_by_class(context: LocalContext, tmp_path: Path) -> None:
    """TextInputFormat gives each line with its place, and other formats name the Spark backend."""
    (tmp_path / "text").write_text("one\ntwo\n")

    assert context.hadoopFile(
        f"{tmp_path}/text", "org.apache.hadoop.mapred.TextInputFormat", "k", "v"
    ).collect() == [(0, "one"), (4, "two")]
    with pytest.raises(ConfigurationError, match=r"inputFormatClass x\.Parquet needs the Spark backend"):
        context.newAPIHadoopFile(f"{tmp_path}/text", "x.Parquet", "k", "v")
    with pytest.raises(ConfigurationError, match=r"hadoopRDD of x\.Parquet needs the Spark backend"):
        context.hadoopRDD("x.Parquet", "k", "v")


@pytest.mark.slow
def test_partitions_are_streamed(tmp_path: Path) -> None:
    """A partition is written and read without being held: elements are made and taken one by one."""
    with LocalContext("local") as context:
        made = context.accumulator(0)

        def numbers(part: Iterator[int]) -> Iterator[int]:
            for n in part:
                made.add(1)
                yield n

        context.range(100_000, numSlices=1).mapPartitions(numbers).saveAsTextFile(str(tmp_path / "out"))
        before = made.value
        assert context.textFile(str(tmp_path / "out"), 1).mapPartitions(numbers).take(2) == ["0", "1"]

    assert (before, made.value) == (100_000, 100_002)
    lines = numbered_lines_of([FileRange(str(tmp_path / "out" / "part-00000"), 0, 588_890)])
    assert next(lines) == (0, "0")


def test_output_that_cannot_be_removed_is_told(context: LocalContext, tmp_path: Path) -> None:
    """A file where the folder of an output should be stays, and the error names it."""
    target = tmp_path / "out"
    target.write_text("kept")

    with pytest.raises(SinkError, match=re.escape(str(target))):
        context.removeOutput(str(target))

    assert target.read_text() == "kept"
