"""Iceberg's values, by its specification and without PyIceberg: types, their binary form in bounds, partition
transforms, truncated bounds, and the same values of Arrow arrays.

A value is plain here: an `int` for numbers, dates, times, timestamps and unscaled decimals, a `float`, a `bool`, a
`str`, or `bytes` for UUIDs and binaries. So values of Parquet files, of partitions and of bounds compare.
"""

import datetime
import decimal
import math
import re
import struct
import uuid
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

EPOCH = datetime.datetime(1970, 1, 1)

# Appendix D of the specification: types whose bounds have one length. Integers grow: bounds of older files stay short.
_FIXED_FORMATS = {
    "int": {4: "<i"},
    "long": {8: "<q", 4: "<i"},
    "float": {4: "<f"},
    "double": {8: "<d", 4: "<f"},
    "date": {4: "<i"},
    "time": {8: "<q"},
    "timestamp": {8: "<q"},
    "timestamptz": {8: "<q"},
    "timestamp_ns": {8: "<q"},
    "timestamptz_ns": {8: "<q"},
}

_TIMESTAMPS = {"timestamp": 10**6, "timestamptz": 10**6, "timestamp_ns": 10**9, "timestamptz_ns": 10**9}
_PRIMITIVES = {*_FIXED_FORMATS, "boolean", "string", "uuid", "binary"}


class Wrong(Exception):
    """What stands in a metadata file is not what its type has."""


def family(kind: str) -> str:
    """`decimal` of `decimal(15, 2)`, `fixed` of `fixed[4]`; the others are their own."""
    return re.split(r"[(\[]", kind)[0]


def parameters(kind: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", kind.split("_ns")[0])]


def is_known(kind: str) -> bool:
    return kind in _PRIMITIVES or family(kind) in ("decimal", "fixed")


def is_float(kind: str) -> bool:
    return kind in ("float", "double")


def from_bytes(kind: str, data: bytes) -> object:
    """The value that a bound holds."""
    if kind in _FIXED_FORMATS:
        layout = _FIXED_FORMATS[kind].get(len(data))
        if layout is None:
            raise Wrong(f"{len(data)} bytes for {kind}")
        return struct.unpack(layout, data)[0]
    if kind == "boolean":
        if data not in (b"\0", b"\1"):
            raise Wrong(f"{data!r} for boolean")
        return data == b"\1"
    if family(kind) == "decimal":
        value = int.from_bytes(data, "big", signed=True)
        if data != unscaled_bytes(value):
            raise Wrong(f"{data.hex()} is not the shortest form of the decimal {value}")
        return value
    if kind == "string":
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise Wrong(f"{data!r} is not UTF-8") from error
    if kind == "uuid" and len(data) != 16:
        raise Wrong(f"{len(data)} bytes for uuid")
    return bytes(data)


def unscaled_bytes(value: int) -> bytes:
    """Two's complement, big-endian, as short as can be."""
    length = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return value.to_bytes(length, "big", signed=True)


def plain(kind: str, value: object) -> object:
    """A Python value of Avro, Arrow or JSON as a plain one."""
    if value is None:
        return None
    if isinstance(value, decimal.Decimal):
        sign, digits, exponent = value.as_tuple()
        scale = parameters(kind)[1]
        number = int("".join(map(str, digits))) * 10 ** (exponent + scale)
        return -number if sign else number
    if isinstance(value, datetime.datetime):
        since = value.replace(tzinfo=None) - EPOCH
        return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
    if isinstance(value, datetime.date):
        return value.toordinal() - EPOCH.toordinal()
    if isinstance(value, uuid.UUID):
        return value.bytes
    if family(kind) == "decimal" and isinstance(value, bytes):
        return int.from_bytes(value, "big", signed=True)
    return value


def ordered(value: object) -> object:
    """A key in Iceberg's order: -0.0 comes before 0.0."""
    if isinstance(value, float):
        return (value, math.copysign(1.0, value))
    return value


# Arrow


def arrow_type(kind: str) -> pa.DataType | None:
    """The type of a Parquet column, as Arrow shows it; None for types that are not known here."""
    if family(kind) == "decimal":
        return pa.decimal128(*parameters(kind))
    if family(kind) == "fixed":
        return pa.binary(*parameters(kind))
    return {
        "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
        "date": pa.date32(), "time": pa.time64("us"), "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"), "timestamp_ns": pa.timestamp("ns"),
        "timestamptz_ns": pa.timestamp("ns", "UTC"), "string": pa.string(), "uuid": pa.binary(16),
        "binary": pa.binary(),
    }.get(kind)  # fmt: skip


def storage_type(kind: pa.DataType) -> pa.DataType:
    """Without what Arrow adds to what Parquet has: extensions, and wide or viewed texts."""
    if isinstance(kind, pa.BaseExtensionType):
        return storage_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return storage_type(kind.value_type)
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(kind) or kind == pa.binary_view():
        return pa.binary()
    if pa.types.is_timestamp(kind) and kind.tz in ("+00:00", "Etc/UTC"):
        return pa.timestamp(kind.unit, "UTC")
    return kind


def may_be_stored_as(kind: str, stored: pa.DataType) -> bool:
    """Whether a column of this type, or of a type that it was promoted from, is stored so."""
    wanted = arrow_type(kind)
    if wanted is None or stored == wanted:
        return wanted is not None
    if kind in ("long", "double"):
        return stored == (pa.int32() if kind == "long" else pa.float32())
    if family(kind) == "decimal" and pa.types.is_decimal(stored):
        return stored.scale == wanted.scale and stored.precision <= wanted.precision
    return False


def simple_array(array: pa.Array) -> pa.Array:
    """An array of integers, floats, booleans, decimals, texts or binaries."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    kind = storage_type(array.type)
    if kind != array.type and not pa.types.is_timestamp(kind):
        array = array.cast(kind)
    if pa.types.is_date32(kind):
        return array.cast(pa.int32())
    if pa.types.is_time64(kind) or pa.types.is_timestamp(kind):
        return array.cast(pa.int64())
    return array


def distinct(kind: str, array: pa.Array) -> tuple[pa.Array, list]:
    """For each place of the array the index of its value, and the values, plain; NULL is a value too."""
    encoded = pc.dictionary_encode(simple_array(array), null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices, [plain(kind, value) for value in encoded.dictionary.to_pylist()]


# Transforms


def murmur3(data: bytes) -> int:
    """MurmurHash3, x86, 32 bits, seed 0; unsigned."""

    def mix(block: int) -> int:
        block = block * 0xCC9E2D51 & 0xFFFFFFFF
        block = (block << 15 | block >> 17) & 0xFFFFFFFF
        return block * 0x1B873593 & 0xFFFFFFFF

    state = 0
    whole = len(data) // 4 * 4
    for (block,) in struct.iter_unpack("<I", data[:whole]):
        state ^= mix(block)
        state = (state << 13 | state >> 19) & 0xFFFFFFFF
        state = (state * 5 + 0xE6546B64) & 0xFFFFFFFF
    if rest := data[whole:]:
        state ^= mix(int.from_bytes(rest, "little"))
    state ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        state = (state ^ state >> shift) * factor & 0xFFFFFFFF
    return state


def hash_bytes(kind: str, value: object) -> bytes:
    """What is hashed of a value; appendix B."""
    if family(kind) == "decimal":
        return unscaled_bytes(value)
    if kind.endswith("_ns"):
        value //= 1000
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return struct.pack("<q", value)
    return value


def civil_year_and_month(days: int) -> tuple[int, int]:
    """The year, and the month from 1, of a day since 1970 in the proleptic Gregorian calendar, for any year."""
    days += 719_468  # since 0000-03-01
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return era * 400 + year + (month >= 10), month + 3 if month < 10 else month - 9


def days_of(kind: str, value: int) -> int:
    return value if kind == "date" else value // (_TIMESTAMPS[kind] * 86_400)


def _year(kind: str, value: int) -> int:
    return civil_year_and_month(days_of(kind, value))[0] - 1970


def _month(kind: str, value: int) -> int:
    year, month = civil_year_and_month(days_of(kind, value))
    return (year - 1970) * 12 + month - 1


def _hour(kind: str, value: int) -> int:
    return value // (_TIMESTAMPS[kind] * 3600)


def transform(name: str, kind: str) -> Callable[[object], object]:
    """The function that turns a value of a column into the one of its partition."""
    number = parameters(name)
    if name == "void":
        return lambda value: None
    functions = {
        "identity": lambda value: value,
        "year": lambda value: _year(kind, value),
        "month": lambda value: _month(kind, value),
        "day": lambda value: days_of(kind, value),
        "hour": lambda value: _hour(kind, value),
        "bucket": lambda value: (murmur3(hash_bytes(kind, value)) & 0x7FFFFFFF) % number[0],
        "truncate": lambda value: value - value % number[0] if isinstance(value, int) else value[: number[0]],
    }
    function = functions.get(family(name))
    if function is None:
        raise Wrong(f"the transform {name} is not known to the checker")
    return lambda value: None if value is None else function(value)


def result_type(name: str, kind: str) -> str:
    """The type of a transform's results."""
    if family(name) in ("identity", "truncate", "void"):
        return kind
    return "date" if name == "day" else "int"


# Truncated bounds


def truncated_lower(value: object, length: int | None) -> object:
    """A text or binary cut to `length` characters or bytes; others are kept whole, and all are when it is None."""
    if length is None or not isinstance(value, (str, bytes)):
        return value
    return value[:length]


def truncated_upper(value: object, length: int | None) -> object:
    """The smallest cut value that is not below the given one: its last character that can grow has grown. None when
    there is none."""
    if length is None or not isinstance(value, (str, bytes)) or len(value) <= length:
        return value
    for end in range(length, 0, -1):
        if (raised := _next(value[end - 1])) is not None:
            return value[: end - 1] + raised
    return None


def _next(unit: str | int) -> str | bytes | None:
    if isinstance(unit, int):
        return bytes([unit + 1]) if unit < 255 else None
    code = ord(unit) + 1
    if 0xD800 <= code <= 0xDFFF:
        code = 0xE000  # half a pair is no character
    return chr(code) if code <= 0x10FFFF else None
