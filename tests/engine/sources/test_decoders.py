"""The decoders of record values."""

import pickle
from types import BuiltinFunctionType
from typing import Any

import cloudpickle
import msgspec
import pytest

from engine.sources.decoders import JsonDecoder, json_decoder, json_dict, raw_bytes


class PageView(msgspec.Struct, gc=False):
    """Two of the fields of an event."""

    page: str
    event_time: int


VALUE = b'{"seq":1,"event_time":5,"user":"u","page":"/home"}'


class TestJsonDecoder:
    """Typed JSON."""

    def test_declared_fields_are_decoded(self) -> None:
        """The declared fields come in their types, the others are left out."""
        assert json_decoder(PageView)(VALUE) == PageView("/home", 5)

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"not json",
            b'{"page":"/home"}',
            b'{"page":"/home","event_time":"5"}',
            b'{"page":"/home","event_time":5}x',
            b'{"page":"\xff","event_time":5}',
        ],
    )
    def test_value_that_does_not_fit_is_refused(self, value: bytes) -> None:
        """What is not JSON, lacks a field, has another type or is not UTF-8 in a field raises."""
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            json_decoder(PageView)(value)

    @pytest.mark.parametrize("module", [pickle, cloudpickle])
    def test_decoder_is_shipped_as_its_type(self, module: Any) -> None:
        """A decoder that was used here works after pickling, by pickle and by cloudpickle."""
        decoder = json_decoder(PageView)
        decoder(VALUE)

        shipped: JsonDecoder[PageView] = pickle.loads(module.dumps(decoder))  # noqa: S301 - our own bytes

        assert shipped(VALUE) == PageView("/home", 5)

    def test_function_is_compiled_code(self) -> None:
        """What runs for each record is msgspec's own method, made once."""
        decoder = json_decoder(PageView)

        assert isinstance(decoder.function(), BuiltinFunctionType)
        assert decoder.function() is decoder.function()


class TestPlainDecoders:
    """Dicts and bytes."""

    def test_json_dict_gives_every_field(self) -> None:
        """A JSON object becomes a dict with all its fields."""
        assert json_dict(VALUE) == {"seq": 1, "event_time": 5, "user": "u", "page": "/home"}

    def test_json_dict_takes_objects_only(self) -> None:
        """JSON that is no object is refused."""
        with pytest.raises(msgspec.DecodeError):
            json_dict(b"[1]")

    def test_raw_bytes_gives_the_value_itself(self) -> None:
        """The bytes are handed on, not copied."""
        assert raw_bytes(VALUE) is VALUE
        assert raw_bytes.function()(VALUE) is VALUE

    @pytest.mark.parametrize("decoder", [json_decoder(PageView), json_dict, raw_bytes])
    def test_null_is_refused(self, decoder: Any) -> None:
        """A record without a value is undecodable for each of them."""
        with pytest.raises(TypeError):
            decoder.function()(None)

    @pytest.mark.parametrize("decoder", [json_dict, raw_bytes])
    def test_plain_decoders_are_shipped(self, decoder: Any) -> None:
        """They work after pickling."""
        assert pickle.loads(pickle.dumps(decoder))(b"{}") == decoder(b"{}")  # noqa: S301 - our own bytes
