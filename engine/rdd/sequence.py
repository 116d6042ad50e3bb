"""Hadoop's sequence files, and Spark's pickle files in them: written and read without Java.

A file, version 6; integers are big-endian, `vint` is Hadoop's integer of variable length:

    "SEQ" 6, key class, value class (each: vint length, UTF-8)
    is compressed (1 byte), is compressed in blocks (1 byte), codec class if compressed
    number of metadata pairs (4 bytes, 0 here), sync (16 bytes by chance)
    records, and before one of them now and then -1 (4 bytes) and the sync:
        length of key and value (4 bytes), length of key (4 bytes), key, value (compressed if the file is, without blocks)
    or blocks, if it is compressed in blocks:
        -1 (4 bytes), sync, vint number of records, and four times vint length and compressed bytes:
        the keys' lengths as vints, the keys, the values' lengths, the values

A pickle file of Spark has no keys; each value is a Java-serialised array of byte arrays, and each of these a pickled list of
elements. A file that ends within a record, or holds a class that is not known here, is refused by name.

Owns: Writable, writable_of, writable_named, encoded_file, pairs_of, packed, unpacked.
Never: a class of a user's Java program.
"""

import struct
import uuid
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from engine.errors import ConfigurationError, SourceError
from engine.rdd.paths import Codec, codec_of_class, only_on_spark
from engine.rdd.serializers import dump, load

_MAGIC: Final = b"SEQ\x06"
_SYNC_BYTES: Final = 102_400
"""At most that many bytes of records lie between two syncs."""
_BLOCK_BYTES: Final = 1_000_000
"""At least that many bytes of records are in a block."""
_ESCAPE: Final = -1
_PACKAGE: Final = "org.apache.hadoop.io."
_BYTES_OF_MARK: Final = 112


def vint(value: int) -> bytes:
    """Hadoop's integer of variable length.

    Example:
        >>> vint(5).hex(), vint(300).hex(), vint(-200).hex()
        ('05', '8e012c', '87c7')
    """
    if -_BYTES_OF_MARK <= value <= 127:
        return struct.pack(">b", value)
    mark, rest = (-_BYTES_OF_MARK, value) if value >= 0 else (-_BYTES_OF_MARK - 8, ~value)
    digits = rest.to_bytes((rest.bit_length() + 7) // 8, "big")
    return struct.pack(">b", mark - len(digits)) + digits


def _read_vint(file: BinaryIO) -> int:
    (mark,) = struct.unpack(">b", _exactly(file, 1))
    if mark >= -_BYTES_OF_MARK:
        return int(mark)
    is_negative = mark < -_BYTES_OF_MARK - 8
    count = -_BYTES_OF_MARK - 8 - mark if is_negative else -_BYTES_OF_MARK - mark
    digits = int.from_bytes(_exactly(file, count), "big")
    return ~digits if is_negative else digits


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise SourceError(f"{getattr(file, 'name', 'a sequence file')} ends within a record; write it again")
    return data


def _sized(data: bytes) -> bytes:
    return vint(len(data)) + data


def _unsized(data: bytes) -> bytes:
    file = BytesIO(data)
    return _exactly(file, _read_vint(file))


class Writable(NamedTuple):
    """One of Hadoop's classes of keys and values."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _packed_as(name: str, code: str) -> Writable:
    packing = struct.Struct(code)

    def decode(data: bytes) -> Any:
        return packing.unpack(data)[0]

    return Writable(_PACKAGE + name, packing.pack, decode)


def _encode_bytes(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


NULL: Final = Writable(f"{_PACKAGE}NullWritable", lambda _value: b"", lambda _data: None)
BYTES: Final = Writable(f"{_PACKAGE}BytesWritable", _encode_bytes, lambda data: data[4:])
_TEXT: Final = Writable(
    f"{_PACKAGE}Text", lambda value: _sized(value.encode()), lambda data: _unsized(data).decode()
)
_BOOLEAN: Final = _packed_as("BooleanWritable", ">?")
_INT: Final = _packed_as("IntWritable", ">i")
_LONG: Final = _packed_as("LongWritable", ">q")
_DOUBLE: Final = _packed_as("DoubleWritable", ">d")
_FLOAT: Final = _packed_as("FloatWritable", ">f")
_KNOWN: Final = {kind.name: kind for kind in (NULL, BYTES, _TEXT, _BOOLEAN, _INT, _LONG, _DOUBLE, _FLOAT)}
_OF_TYPE: Final = {
    type(None): NULL,
    bytes: BYTES,
    bytearray: BYTES,
    str: _TEXT,
    bool: _BOOLEAN,
    float: _DOUBLE,
}


def writable_of(value: Any) -> Writable:
    """The class that PySpark writes a value as.

    Raises:
        ConfigurationError: it is none of None, bool, int, float, str and bytes.

    Example:
        >>> writable_of("a").name
        'org.apache.hadoop.io.Text'
    """
    if type(value) is int:
        return _INT if -(2**31) <= value < 2**31 else _LONG
    if type(value) not in _OF_TYPE:
        raise only_on_spark(f"a sequence file of {type(value).__name__} ({value!r:.60})")
    return _OF_TYPE[type(value)]


def writable_named(name: str) -> Writable:
    """The class of that name.

    Raises:
        ConfigurationError: it is not known here.
    """
    if name not in _KNOWN:
        raise only_on_spark(f"a sequence file of {name}")
    return _KNOWN[name]


def _encoded(kind: Writable, value: Any) -> bytes:
    try:
        return kind.encode(value)
    except (struct.error, AttributeError, TypeError) as cause:
        raise ConfigurationError(
            f"{value!r:.60} is not what the first element was, {kind.name}; make all keys, and all values, of one type"
        ) from cause


def encoded_file(
    classes: tuple[Writable, Writable], codec_class: str | None, pairs: Iterable[tuple[Any, Any]]
) -> Iterator[bytes]:
    """The bytes of a file with these pairs, in pieces; with a codec it is compressed in blocks."""
    sync = uuid.uuid4().bytes
    names = b"".join(_sized(kind.name.encode()) for kind in classes)
    records = ((_encoded(classes[0], key), _encoded(classes[1], value)) for key, value in pairs)
    if codec_class is None:
        yield _MAGIC + names + b"\0\0" + bytes(4) + sync
        yield from _records(records, sync)
    else:
        yield _MAGIC + names + b"\1\1" + _sized(codec_class.encode()) + bytes(4) + sync
        yield from _blocks(records, sync, codec_of_class(codec_class))


def _records(records: Iterable[tuple[bytes, bytes]], sync: bytes) -> Iterator[bytes]:
    since = 0
    for key, value in records:
        if since >= _SYNC_BYTES:
            yield struct.pack(">i", _ESCAPE) + sync
            since = 0
        record = struct.pack(">ii", len(key) + len(value), len(key)) + key + value
        since += len(record)
        yield record


def _blocks(records: Iterable[tuple[bytes, bytes]], sync: bytes, codec: Codec) -> Iterator[bytes]:
    block: list[tuple[bytes, bytes]] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record[0]) + len(record[1])
        if size >= _BLOCK_BYTES:
            yield _block(block, sync, codec)
            block, size = [], 0
    if block:
        yield _block(block, sync, codec)


def _block(records: list[tuple[bytes, bytes]], sync: bytes, codec: Codec) -> bytes:
    parts = [struct.pack(">i", _ESCAPE), sync, vint(len(records))]
    for side in (0, 1):
        for column in (
            b"".join(vint(len(record[side])) for record in records),
            b"".join(record[side] for record in records),
        ):
            compressor = codec.compressor()
            parts.append(_sized(compressor.compress(column) + compressor.flush()))
    return b"".join(parts)


class _Header(NamedTuple):
    key: Writable
    value: Writable
    codec: Codec | None
    is_in_blocks: bool
    sync: bytes


def _read_header(file: BinaryIO, path: str) -> _Header:
    if file.read(4) != _MAGIC:
        raise SourceError(
            f"{path} is not a sequence file of version 6; name the folder that one was saved in"
        )
    names = [_exactly(file, _read_vint(file)).decode() for _ in range(2)]
    is_compressed, is_in_blocks = _exactly(file, 2)
    codec = codec_of_class(_exactly(file, _read_vint(file)).decode()) if is_compressed else None
    (metadata,) = struct.unpack(">i", _exactly(file, 4))
    for _ in range(2 * metadata):
        _exactly(file, _read_vint(file))
    key, value = map(writable_named, names)
    return _Header(key, value, codec, bool(is_in_blocks), _exactly(file, 16))


def pairs_of(paths: Iterable[str]) -> Iterator[tuple[Any, Any]]:
    """The pairs of the files.

    Raises:
        SourceError: a file is not a sequence file, or is cut off.
        ConfigurationError: it holds a class, or a codec, that is not known here.
    """
    for path in paths:
        with Path(path).open("rb") as file:
            header = _read_header(file, path)
            records = _read_blocks(file, header) if header.is_in_blocks else _read_records(file, header)
            for key, value in records:
                yield header.key.decode(key), header.value.decode(value)


def _read_records(file: BinaryIO, header: _Header) -> Iterator[tuple[bytes, bytes]]:
    while head := file.read(4):
        (length,) = struct.unpack(">i", head)
        if length == _ESCAPE:
            _exactly(file, len(header.sync))
            continue
        (key_length,) = struct.unpack(">i", _exactly(file, 4))
        key, value = _exactly(file, key_length), _exactly(file, length - key_length)
        yield key, value if header.codec is None else header.codec.decompressed(value)


def _read_blocks(file: BinaryIO, header: _Header) -> Iterator[tuple[bytes, bytes]]:
    assert header.codec is not None
    while file.read(4):
        _exactly(file, len(header.sync))
        count = _read_vint(file)
        columns = [BytesIO(header.codec.decompressed(_exactly(file, _read_vint(file)))) for _ in range(4)]
        for _ in range(count):
            key = _exactly(columns[1], _read_vint(columns[0]))
            yield key, _exactly(columns[3], _read_vint(columns[2]))


# Spark's pickle files.

_JAVA_ARRAYS: Final = bytes.fromhex("aced0005757200035b5b424bfd19156767db370200007870")
"""Java's serialisation of an array of byte arrays, up to its length."""
_JAVA_FIRST: Final = bytes.fromhex("757200025b42acf317f8060854e00200007870")
"""Of the first byte array in it, up to its length: the class is told."""
_JAVA_NEXT: Final = bytes.fromhex("7571007e0002")
"""Of a later byte array, up to its length: the class is that of the first."""
_ARRAYS_OF_VALUE: Final = 10


def packed(batch_size: int, elements: Iterator[Any]) -> Iterator[tuple[None, bytes]]:
    """The elements as pairs of a pickle file; `batch_size` of them are one pickled list."""
    batches = iter(lambda: list(islice(elements, batch_size)), [])
    for arrays in iter(lambda: [dump(batch) for batch in islice(batches, _ARRAYS_OF_VALUE)], []):
        parts = [_JAVA_ARRAYS, struct.pack(">i", len(arrays))]
        for number, array in enumerate(arrays):
            parts += [_JAVA_NEXT if number else _JAVA_FIRST, struct.pack(">i", len(array)), array]
        yield None, b"".join(parts)


def unpacked(pairs: Iterable[tuple[Any, bytes]]) -> Iterator[Any]:
    """The elements of a pickle file's pairs.

    Raises:
        SourceError: a value is no array of byte arrays.
    """
    for _, value in pairs:
        at = value.find(b"\x78\x70") + 2
        if not value.startswith(_JAVA_ARRAYS[:4]) or at < 2:
            raise SourceError("a sequence file without pickled elements; read it with sequenceFile")
        (count,) = struct.unpack_from(">i", value, at)
        at += 4
        for number in range(count):
            at = value.index(b"\x78\x70", at) + 2 if number == 0 else at + len(_JAVA_NEXT)
            (length,) = struct.unpack_from(">i", value, at)
            yield from load(value[at + 4 : at + 4 + length])
            at += 4 + length
