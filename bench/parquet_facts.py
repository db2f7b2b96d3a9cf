"""What a Parquet data file holds, found by reading all of its rows: counts, bounds, partition values, order.

Of what the writer says about its own file only the footer is believed, and of it only what the file cannot be read
without: the places and the compressed sizes of its columns. Its statistics are not looked at.
"""

import dataclasses
import math
import os
import pathlib
import stat
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import iceberg_values as values

FIELD_ID = b"PARQUET:field_id"

# A file whose footer names one of these was written by Inshore, by the Parquet library it is built with.
OURS = ("parquet-rs", "inshore")


@dataclasses.dataclass
class Leaf:
    """A column of the file that holds values."""

    field_id: int
    name: str
    kind: str
    repeated: bool = False
    size: int = 0
    slots: int = 0
    nulls: int = 0
    nans: int = 0
    lowest: object = None
    highest: object = None

    def add(self, array: pa.Array, empty: int) -> None:
        """Values of a row group; `empty` are the places of lists that hold none."""
        self.slots += len(array) + empty
        self.nulls += array.null_count + empty
        array = values.simple_array(array).drop_null()
        if values.is_float(self.kind):
            nan = pc.is_nan(array)
            self.nans += pc.sum(nan).as_py() or 0
            array = array.filter(pc.invert(nan))
        if len(array) == 0:
            return
        for value in self._extremes(array):
            if self.lowest is None or values.ordered(value) < values.ordered(self.lowest):
                self.lowest = value
            if self.highest is None or values.ordered(value) > values.ordered(self.highest):
                self.highest = value

    def _extremes(self, array: pa.Array) -> list:
        least, most = (values.plain(self.kind, value) for value in pc.min_max(array).as_py().values())
        if not values.is_float(self.kind) or 0.0 not in (least, most):
            return [least, most]
        # Arrow does not tell the zeros apart, but what a number divided by them is.
        infinities = pc.min_max(pc.divide(1.0, array.filter(pc.equal(array, 0.0)))).as_py()
        least = math.copysign(0.0, infinities["min"]) if least == 0 else least
        most = math.copysign(0.0, infinities["max"]) if most == 0 else most
        return [least, most]


class Schema:
    """An Iceberg schema, as JSON, by field id."""

    def __init__(self, fields: list[dict]):
        self.names: dict[int, str] = {}
        self.kinds: dict[int, str] = {}
        self.required: dict[int, bool] = {}
        self.parents: dict[int, int | None] = {}
        self.repeated: set[int] = set()
        for field in fields:
            self._add(field["id"], field["name"], field["type"], field["required"], None, False)

    def _add(self, number: int, name: str, kind, required: bool, parent: int | None, repeated: bool) -> None:
        self.names[number], self.required[number], self.parents[number] = name, required, parent
        if repeated:
            self.repeated.add(number)
        self.kinds[number] = kind.replace(" ", "") if isinstance(kind, str) else kind["type"]
        if isinstance(kind, str):
            return
        if kind["type"] == "struct":
            for field in kind["fields"]:
                self._add(field["id"], f"{name}.{field['name']}", field["type"], field["required"], number, repeated)
        elif kind["type"] == "list":
            self._add(
                kind["element-id"], f"{name}.element", kind["element"], kind["element-required"], number, True
            )
        else:
            self._add(kind["key-id"], f"{name}.key", kind["key"], True, number, True)
            self._add(kind["value-id"], f"{name}.value", kind["value"], kind["value-required"], number, True)

    def leaves(self) -> list[int]:
        return [number for number, kind in self.kinds.items() if kind not in ("struct", "list", "map")]


class DataFile:
    """A Parquet file, read as a table whose fields have these ids. Without a schema only its footer is read."""

    def __init__(self, path: pathlib.Path, schema: Schema | None, name_mapping: dict[str, int] | None = None):
        self.path, self.schema = path, schema
        self.problems: list[tuple[str, object, object]] = []
        self.bytes = path.stat().st_size
        self.file = pq.ParquetFile(path)
        footer = self.file.metadata
        self.rows = footer.num_rows
        self.ours = any(name in (footer.created_by or "").lower() for name in OURS)
        self.offsets = [_group_start(footer.row_group(index)) for index in range(footer.num_row_groups)]
        if schema is None:
            return
        self._mapping = name_mapping
        self.columns = {self._field_id(field, field.name): field for field in self.file.schema_arrow}
        self.leaves = self._all_leaves()
        self._read()

    def _field_id(self, field: pa.Field, name: str) -> int | None:
        """The id in the file; by the table's name mapping where the file has none."""
        given = (field.metadata or {}).get(FIELD_ID)
        if given is not None:
            return int(given)
        return (self._mapping or {}).get(name)

    def _wrong(self, field: str, expected: object, found: object) -> None:
        self.problems.append((field, expected, found))

    def _all_leaves(self) -> list[Leaf]:
        """In the order of the file's columns."""
        leaves = []
        seen: set[int] = set()
        for field in self.file.schema_arrow:
            leaves.extend(self._leaves(field, field.name, None, False, seen))
        footer = self.file.metadata
        for index, leaf in enumerate(leaves):
            leaf.size = sum(
                footer.row_group(group).column(index).total_compressed_size for group in range(footer.num_row_groups)
            )
        return leaves

    def _leaves(self, field: pa.Field, name: str, parent: int | None, repeated: bool, seen: set) -> Iterator[Leaf]:
        number = self._field_id(field, name)
        kind = self.schema.kinds.get(number)
        if number is None or kind is None:
            self._wrong(f"field id of column {name}", "an id of the table's schemas", number)
            number, kind = -1, "unknown"
        elif number in seen:
            self._wrong(f"field id of column {name}", "an id that no other column has", number)
        elif self.schema.parents[number] != parent:
            self._wrong(f"field id of column {name}", f"one within field {parent}", number)
        seen.add(number)
        children = _children(field.type)
        if not children:
            stored = values.storage_type(field.type)
            if not values.is_known(kind) or not values.may_be_stored_as(kind, stored):
                self._wrong(f"type of column {name}", f"{kind} as {values.arrow_type(kind)}", stored)
            yield Leaf(number, name, kind, repeated)
            return
        wanted = _nested_kind(field.type)
        if kind not in (wanted, "unknown"):
            self._wrong(f"type of column {name}", kind, wanted)
        for label, child in children:
            yield from self._leaves(child, f"{name}.{label}", number, repeated or wanted != "struct", seen)

    def _read(self) -> None:
        for group in range(self.file.metadata.num_row_groups):
            table = self.file.read_row_group(group)
            position = 0
            for column in table.columns:
                for array, empty in _leaf_arrays(column.combine_chunks(), 0):
                    self.leaves[position].add(array, empty)
                    position += 1

    def missing_columns(self, field_ids: list[int]) -> list[int]:
        return [number for number in field_ids if number not in self.columns]

    def values_of(self, number: int) -> pa.Array:
        """All rows of a field, which may be one within structs."""
        path = [number]
        while (parent := self.schema.parents[path[0]]) is not None:
            path.insert(0, parent)
        if path[0] not in self.columns:
            # Added later, or left out: the rows of the file have NULL in it.
            return pa.nulls(self.rows, values.arrow_type(self.schema.kinds[number]))
        array = self.file.read(columns=[self.columns[path[0]].name]).column(0).combine_chunks()
        for step in path[1:]:
            fields = list(array.type)
            name = self.schema.names[step].rsplit(".", 1)[1]
            index = next(
                (i for i, field in enumerate(fields) if self._field_id(field, field.name) in (step, None)
                 and (self._field_id(field, field.name) == step or field.name == name)),
                None,
            )  # fmt: skip
            if index is None:
                return pa.nulls(self.rows, values.arrow_type(self.schema.kinds[number]))
            array = array.flatten()[index]
        return array

    def partition_values(self, number: int, transform: str) -> list:
        """The different values of a transform over all rows."""
        kind = self.schema.kinds[number]
        function = values.transform(transform, kind)
        _, distinct = values.distinct(kind, self.values_of(number))
        found = []
        for value in map(function, distinct):
            if not any(same(value, other) for other in found):
                found.append(value)
        return found

    def first_unsorted_row(self, order: list[dict]) -> int | None:
        """The first row that comes before the one in front of it in a sort order, given as in the metadata."""
        if self.rows < 2:
            return None
        before, undecided = pa.repeat(False, self.rows - 1), pa.repeat(True, self.rows - 1)
        for field in order:
            ranks = self._ranks(field)
            step = pc.subtract(ranks.slice(1), ranks.slice(0, self.rows - 1))
            before = pc.or_(before, pc.and_(undecided, pc.less(step, 0)))
            undecided = pc.and_(undecided, pc.equal(step, 0))
        place = pc.index(before, True).as_py()
        return place + 1 if place >= 0 else None

    def _ranks(self, field: dict) -> pa.Array:
        """The place of each row's value among the values of a field of a sort order."""
        kind = self.schema.kinds[field["source-id"]]
        function = values.transform(field["transform"], kind)
        indices, distinct = values.distinct(kind, self.values_of(field["source-id"]))
        keys = [function(value) for value in distinct]
        descending = field["direction"] == "desc"
        some = [(_is_nan(key), values.ordered(key)) for key in keys if key is not None and not _is_nan(key)]
        places = {key: place for place, key in enumerate(sorted(set(some), reverse=descending), 1)}
        # NaN is greater than all numbers, by the specification.
        nan = 0 if descending else len(places) + 1
        null = -1 if field["null-order"] == "nulls-first" else len(places) + 2
        ranks = [
            null if key is None else nan if _is_nan(key) else places[(False, values.ordered(key))] for key in keys
        ]
        return pa.array(ranks, pa.int64()).take(indices)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def same(left: object, right: object) -> bool:
    """Whether two plain values are the same: NaN is NaN, and the zeros are two."""
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return values.ordered(left) == values.ordered(right)
    return type(left) is type(right) and left == right


def _group_start(group: pq.RowGroupMetaData) -> int:
    """Where a row group begins: with the dictionary of its first column, or with its data."""
    column = group.column(0)
    dictionary = column.dictionary_page_offset
    return dictionary if dictionary and dictionary < column.data_page_offset else column.data_page_offset


def _nested_kind(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "struct"
    return "map" if pa.types.is_map(kind) else "list"


def _children(kind: pa.DataType) -> list[tuple[str, pa.Field]]:
    if pa.types.is_struct(kind):
        return [(field.name, field) for field in kind]
    if pa.types.is_map(kind):
        return [("key", kind.key_field), ("value", kind.item_field)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [("element", kind.value_field)]
    return []


def _leaf_arrays(array: pa.Array, empty: int) -> Iterator[tuple[pa.Array, int]]:
    """The leaves of a column: their values, NULL where something around them is, and how many places hold no value
    because a list around them has none."""
    if pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _leaf_arrays(child, empty)
    elif pa.types.is_map(array.type) or _children(array.type):
        lengths = pc.fill_null(_lengths(array), 0)
        empty += pc.sum(pc.equal(lengths, 0)).as_py() or 0
        if not pa.types.is_map(array.type):
            yield from _leaf_arrays(array.flatten(), empty)
            return
        # Files of Parquet have no entries in NULL maps.
        first, last = (array.offsets[0].as_py(), array.offsets[-1].as_py()) if len(array) else (0, 0)
        yield from _leaf_arrays(array.keys.slice(first, last - first), empty)
        yield from _leaf_arrays(array.items.slice(first, last - first), empty)
    else:
        yield array, empty


def _lengths(array: pa.Array) -> pa.Array:
    if not pa.types.is_map(array.type):
        return pc.list_value_length(array)
    lengths = pc.subtract(array.offsets.slice(1), array.offsets.slice(0, len(array)))
    return pc.if_else(array.is_valid(), lengths, None)


def is_regular(path: pathlib.Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
