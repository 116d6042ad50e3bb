"""Names of files and folders as Spark takes them, and the compressions that the standard library has.

Owns: only_on_spark, local_path, mounted_path, found_files, file_uri, Codec, PLAIN, codec_of_class, codec_of_file.
Never: another file system than this machine's; the errors name the backend that has them.
"""

import bz2
import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol, cast

from engine.errors import ConfigurationError, SourceError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?(?=/)|([A-Za-z][A-Za-z0-9+.-]+)://")


def only_on_spark(thing: str) -> ConfigurationError:
    """The error for what this backend does not have.

    Example:
        >>> print(only_on_spark("hdfs://name/x"))
        hdfs://name/x needs the Spark backend: use a pyspark.SparkContext in place of LocalContext
    """
    return ConfigurationError(
        f"{thing} needs the Spark backend: use a pyspark.SparkContext in place of LocalContext"
    )


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path on this machine, absolute.

    Raises:
        ConfigurationError: it names another file system.

    Example:
        >>> local_path("file:///tmp/x") == local_path("file:/tmp/x") == local_path("/tmp/x") == Path("/tmp/x")
        True
    """
    name = os.fspath(path)
    scheme = _SCHEME.match(name)
    if scheme is None:
        return Path(name).absolute()
    if scheme.group(1) != "file":
        raise only_on_spark(name)
    return Path(name[scheme.end() :])


def mounted_path(path: str | os.PathLike[str], thing: str) -> Path:
    """The path on this machine of what the driver itself reads and writes, whatever computes the jobs; absolute.

    Args:
        path: as the user gave it, with or without file: before it.
        thing: what it is of, for the message.

    Raises:
        ConfigurationError: it is no path, or names another file system.

    Example:
        >>> mounted_path("file:///tmp/x", "the checkpoint directory")
        PosixPath('/tmp/x')
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(name := os.fspath(path), str) or not name:
        raise ConfigurationError(f"{thing} is {path!r:.60}; give the path of a folder")
    scheme = _SCHEME.match(name)
    if scheme is not None and scheme[1] != "file":
        raise ConfigurationError(
            f"{thing} is {name}, on a file system that this process cannot open; give a folder of this machine, or mount it here"
        )
    return local_path(name)


def file_uri(path: Path) -> str:
    """The path as Spark names a file of this machine.

    Example:
        >>> file_uri(Path("/tmp/x"))
        'file:/tmp/x'
    """
    return f"file:{path}"


def found_files(names: str) -> list[Path]:
    """The files that a comma-separated list of files, folders and patterns stands for, by name; hidden ones are left out.

    Raises:
        SourceError: one of them stands for nothing.
    """
    found: list[Path] = []
    for name in names.split(","):
        path = local_path(name)
        matches = sorted(Path(match) for match in glob.glob(str(path))) or [path]  # noqa: PTH207 - an absolute pattern
        for match in matches:
            if match.is_dir():
                found.extend(sorted(child for child in match.iterdir() if _is_data(child)))
            elif match.exists():
                found.append(match)
            else:
                raise SourceError(f"Input path does not exist: {file_uri(match)}")
    return found


def _is_data(path: Path) -> bool:
    return not path.name.startswith(("_", ".")) and path.is_file()


class Compressor(Protocol):
    """What the standard library's compressors have in common."""

    def compress(self, data: bytes, /) -> bytes:
        """The compressed bytes that are ready."""

    def flush(self) -> bytes:
        """The rest of them."""


class Codec(NamedTuple):
    """A compression: how its files end, and how they are written and read."""

    suffix: str
    compressor: Callable[[], Compressor]
    opened: Callable[[Path], BinaryIO]
    """The file's contents, as a stream."""
    decompressed: Callable[[bytes], bytes]


def _open_plain(path: Path) -> BinaryIO:
    return path.open("rb")


def _open_gzip(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb"))


def _open_bzip2(path: Path) -> BinaryIO:
    return cast("BinaryIO", bz2.open(path, "rb"))


def _open_deflate(path: Path) -> BinaryIO:
    return io.BytesIO(zlib.decompress(path.read_bytes()))


class _Plain:
    """The compressor of files that are not compressed."""

    def compress(self, data: bytes, /) -> bytes:
        """The bytes themselves."""
        return data

    def flush(self) -> bytes:
        """Nothing is held back."""
        return b""


PLAIN: Final = Codec("", _Plain, _open_plain, bytes)
_DEFLATE: Final = Codec(".deflate", zlib.compressobj, _open_deflate, zlib.decompress)
# No time and no name stand in the header of 31: the same elements give the same bytes.
_GZIP: Final = Codec(".gz", partial(zlib.compressobj, wbits=31), _open_gzip, gzip.decompress)
_BZIP2: Final = Codec(".bz2", bz2.BZ2Compressor, _open_bzip2, bz2.decompress)
_PACKAGE: Final = "org.apache.hadoop.io.compress."
_BY_CLASS: Final = {
    f"{_PACKAGE}DefaultCodec": _DEFLATE,
    f"{_PACKAGE}DeflateCodec": _DEFLATE,
    f"{_PACKAGE}GzipCodec": _GZIP,
    f"{_PACKAGE}BZip2Codec": _BZIP2,
}


def codec_of_class(name: str | None) -> Codec:
    """The compression of a Hadoop class; of None no compression.

    Raises:
        ConfigurationError: it is none of gzip, bzip2 and deflate.
    """
    if name is None:
        return PLAIN
    if name not in _BY_CLASS:
        raise only_on_spark(f"compressionCodecClass {name} (here there are {', '.join(_BY_CLASS)})")
    return _BY_CLASS[name]


def codec_of_file(path: Path) -> Codec:
    """The compression that a file's name tells.

    Example:
        >>> codec_of_file(Path("part-00000.gz")).suffix
        '.gz'
    """
    return next((codec for codec in _BY_CLASS.values() if codec.suffix == path.suffix), PLAIN)
