"""Records in portions that memory and one append of the block log have room for.

Owns: the limits of a block, gathered, portions_of, key_of, refuse_large.
Never: a file; the block log has them.
"""

from collections.abc import Iterator
from typing import Any

from engine.errors import ConfigurationError
from engine.sources.elements import encode_element

CHUNK_RECORDS = 10_000
BLOCK_BYTES = 8 << 20
"""Records that wait for their block, or are taken from an iterator, at most, and their bytes: memory stays bounded."""
LIST_BYTES = 60 << 20
"""A list of more bytes is several blocks."""
MAX_RECORD_BYTES = 62 << 20
MAX_METADATA_BYTES = 1 << 20
"""A record and its metadata fit into one append, which is at most 64 MiB."""
BESIDES_BYTES = 16
"""What a record takes in the log beside its own bytes, at most."""


def gathered(records: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Records in lists, each with as many as may wait in memory; the last one may be empty."""
    gathering: list[bytes] = []
    room = BLOCK_BYTES
    for data in records:
        room -= len(data) + BESIDES_BYTES
        if gathering and (room < 0 or len(gathering) >= CHUNK_RECORDS):
            yield gathering
            gathering, room = [], BLOCK_BYTES - len(data) - BESIDES_BYTES
        gathering.append(data)
    yield gathering


def portions_of(values: list[bytes]) -> list[list[bytes]]:
    """Records in lists that fit into one append each; none of no record."""
    if sum(map(len, values)) + len(values) * BESIDES_BYTES <= LIST_BYTES:
        return [values] if values else []
    portions: list[list[bytes]] = [[]]
    room = LIST_BYTES
    for data in values:
        room -= len(data) + BESIDES_BYTES
        if room < 0 and portions[-1]:
            portions.append([])
            room = LIST_BYTES - len(data) - BESIDES_BYTES
        portions[-1].append(data)
    return portions


def key_of(metadata: Any) -> bytes | None:
    """The bytes of metadata; None of none.

    Raises:
        ConfigurationError: they are more than 1 MiB, or it has none.
    """
    key = None if metadata is None else encode_element(metadata)
    if key is not None and len(key) > MAX_METADATA_BYTES:
        raise ConfigurationError(
            f"metadata of a block has {len(key)} bytes; give at most {MAX_METADATA_BYTES}, such as a position"
        )
    return key


def refuse_large(size: int) -> None:
    """Prove that a record of so many bytes fits into one append.

    Raises:
        ConfigurationError: it does not.
    """
    if size > MAX_RECORD_BYTES:
        raise ConfigurationError(
            f"a record has {size} bytes, and the block log takes at most {MAX_RECORD_BYTES}; store it in several records"
        )
