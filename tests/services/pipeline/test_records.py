"""The jobs' decoders and verify agree on which records decode."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pipeline.records import PageView
from tools.verify.truth import _is_page, _is_seq, _is_time, decode

_PARTS = st.sampled_from(
    [
        b'"page"',
        b'"event_time"',
        b'"seq"',
        b":",
        b",",
        b"{",
        b"}",
        b'"x"',
        b'"/a"',
        b'""',
        b"1",
        b"-1",
        b"1.0",
        b"1e3",
        b"true",
    ]
)
_DECODER = msgspec.json.Decoder(PageView)


def engine_takes(value: bytes) -> bool:
    """Whether the engine's decoder makes a page view of the value."""
    try:
        _DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def verify_takes(value: bytes) -> bool:
    """Whether verify counts the value as a page view."""
    event = decode(value)
    return (
        event is not None
        and _is_page(event.get("page"))
        and _is_time(event.get("event_time"))
        and _is_seq(event.get("seq", 0))
    )


@pytest.mark.parametrize(
    "value",
    [
        b'{"page":"/a","event_time":1,"more":"\xff"}',
        b'{"page":"/a","event_time":1,"more":"\\ud83d\\ude00"}',
        b'{"page":"/\\u00e4","event_time":253402300799999}',
        b' {"event_time":0,"page":"/a"}\n',
        b'{"seq":9223372036854775807,"page":"/a","event_time":1}',
    ],
)
def test_unusual_records_that_decode_count_in_both(value: bytes) -> None:
    """Odd bytes in fields that no job needs, escapes and blanks do not make a dead letter."""
    assert engine_takes(value)
    assert verify_takes(value)


@pytest.mark.parametrize("seq", [b"-1", b"9223372036854775808", b"1.0", b"true", b"null", b'"1"'])
def test_number_that_is_none_makes_a_dead_letter_in_both(seq: bytes) -> None:
    """An event whose seq is no integer from 0 to 2^63 - 1 does not decode."""
    value = b'{"seq":%s,"page":"/a","event_time":1}' % seq
    assert not engine_takes(value)
    assert not verify_takes(value)


@given(st.lists(_PARTS, max_size=9).map(b"".join))
def test_decoders_agree_on_broken_records(value: bytes) -> None:
    """Whatever the pieces of a record are put together to, both take it or both put it aside."""
    assert engine_takes(value) == verify_takes(value)
