"""Facts about the language between the judge and the accused."""

from __future__ import annotations

import json
import math
import os
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.sandbox.protocol import Channel, ProtocolError, decode, encode, parse

_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(),
    st.binary(), st.complex_numbers(allow_nan=False), st.dates(), st.datetimes(),
    st.timedeltas(), st.fractions(), st.decimals(allow_nan=False),
)  # fmt: skip
_KEYS = st.one_of(st.integers(), st.text(), st.tuples(st.integers(), st.text()))
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(_KEYS, inner),
        st.sets(_KEYS), st.frozensets(_KEYS),
    ),
)  # fmt: skip
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)
_TAGS = st.sampled_from(
    (
        *("tuple", "dict", "set", "frozenset", "deque", "int", "float", "bytes", "bytearray"),
        *("complex", "range", "decimal", "fraction", "datetime", "date", "timedelta", "type"),
        *("ndarray", "handle", "eval"),
    )
)
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set),
    *(frozenset, range, Decimal, Fraction, type),
)


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and left == right


@given(_VALUES)
def test_plain_data_crosses_unchanged(value: Any) -> None:
    wire = json.loads(json.dumps(encode(value), allow_nan=False))
    assert _same(decode(wire), value)


@given(st.one_of(_JSON, st.builds(lambda tag, body: {tag: body}, _TAGS, _JSON)))
def test_any_json_decodes_to_plain_data_or_is_refused(node: Any) -> None:
    try:
        value = decode(node)
    except ProtocolError:
        return
    assert isinstance(value, _PLAIN) or type(value).__module__ in ("datetime", "collections")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_are_refused(body: bytes) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, body)
        os.close(writer)
        with pytest.raises((ProtocolError, EOFError)):
            list(iter(Channel(reader).receive, object()))
    finally:
        os.close(reader)


class _Impostor(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def test_a_subclass_is_reduced_to_the_value_it_extends() -> None:
    value = decode(encode([_Impostor(3), {_Impostor(4): _Impostor(5)}]))
    assert type(value[0]) is int
    assert value[0] != 4
    assert [type(k) for k in value[1]] == [int]


@pytest.mark.parametrize("value", [object(), len, ValueError(), ValueError, {1: open}])
def test_what_is_no_plain_data_does_not_cross(value: Any) -> None:
    with pytest.raises(ProtocolError):
        encode(value)


def test_an_integer_beyond_all_measure_does_not_cross() -> None:
    with pytest.raises(ProtocolError, match="bits"):
        encode(1 << 2**21)


def test_integers_beyond_json_cross_in_hexadecimal() -> None:
    for value in (10**5000, -(10**5000), 1 << 2**20 - 1):
        assert decode(encode(value)) == value


def test_floats_that_json_lacks_cross() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode([math.inf, -math.inf])) == [math.inf, -math.inf]
    with pytest.raises(ProtocolError):
        parse(b"NaN")
