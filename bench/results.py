"""Compares the answers of two engines to one query.

Rows are compared as multisets, and the ORDER BY columns also in sequence. Values of types that hold them exactly
(integers, decimals, text, dates, booleans) must be equal. A float may differ by 1e-9 relative. Where one engine
gives a float and the other a decimal (division and avg of decimals: DuckDB computes floats, DataFusion decimals of a
limited scale), the decimal may also differ by one unit in its last place, because it was rounded or cut there.
"""

import collections
import datetime
import decimal
import math

import pyarrow as pa
import pyarrow.types as types

RELATIVE_TOLERANCE = 1e-9

# Differences shown of one query.
SHOWN = 6


def compare(expected: pa.Table, actual: pa.Table, order: tuple[int, ...] = ()) -> list[str]:
    """What differs, as lines for a reader; empty when the answers agree."""
    if problems := compare_schemas(expected.schema, actual.schema):
        return problems
    tolerances = [
        column_tolerance(expected_field.type, actual_field.type)
        for expected_field, actual_field in zip(expected.schema, actual.schema)
    ]
    expected_rows, actual_rows = rows_of(expected), rows_of(actual)
    missing, surplus = unmatched(expected_rows, actual_rows, tolerances)
    problems = []
    if len(expected_rows) != len(actual_rows):
        problems.append(f"{len(actual_rows)} rows instead of {len(expected_rows)}")
    problems += [f"missing:    {show(row)}" for row in missing[:SHOWN]]
    problems += [f"unexpected: {show(row)}" for row in surplus[:SHOWN]]
    if hidden := max(0, len(missing) - SHOWN) + max(0, len(surplus) - SHOWN):
        problems.append(f"and {hidden} more rows")
    return problems or compare_sequence(expected_rows, actual_rows, tolerances, order)


def compare_schemas(expected: pa.Schema, actual: pa.Schema) -> list[str]:
    if [name.lower() for name in expected.names] != [name.lower() for name in actual.names]:
        return [f"columns are {actual.names} instead of {expected.names}"]
    return [
        f"column {expected_field.name} is {actual_field.type} instead of {expected_field.type}"
        for expected_field, actual_field in zip(expected, actual)
        if family(expected_field.type) != family(actual_field.type)
    ]


def family(kind: pa.DataType) -> str:
    """Types whose values may stand for each other: engines choose differently within one family."""
    if types.is_dictionary(kind):
        return family(kind.value_type)
    if types.is_integer(kind) or types.is_decimal(kind) or types.is_floating(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    return str(kind)


class Tolerance:
    """When two values of a column with floats count as equal: within `relative`, or within `absolute`."""

    def __init__(self, relative: float, absolute: float):
        self.relative = relative
        self.absolute = absolute

    def equal(self, left, right) -> bool:
        if left is None or right is None:
            return left is right
        left, right = float(left), float(right)
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return math.isclose(left, right, rel_tol=self.relative, abs_tol=self.absolute)


def column_tolerance(expected: pa.DataType, actual: pa.DataType) -> Tolerance | None:
    """None for a column that is compared exactly."""
    if not (types.is_floating(expected) or types.is_floating(actual)):
        return None
    scales = [kind.scale for kind in (expected, actual) if types.is_decimal(kind)]
    # A hair more than a unit: the float nearest to the edge must not fall outside.
    absolute = max((10.0**-scale for scale in scales), default=0.0) * (1 + 1e-6)
    return Tolerance(RELATIVE_TOLERANCE, absolute)


def rows_of(table: pa.Table) -> list[tuple]:
    columns = [column.to_pylist() for column in table.columns]
    return list(zip(*columns)) if columns else []


def unmatched(expected: list[tuple], actual: list[tuple], tolerances: list) -> tuple[list[tuple], list[tuple]]:
    """Rows of each side without a partner on the other."""
    exact = [index for index, tolerance in enumerate(tolerances) if tolerance is None]
    inexact = [index for index, tolerance in enumerate(tolerances) if tolerance is not None]

    def groups(rows: list[tuple]) -> dict[tuple, list[tuple]]:
        found = collections.defaultdict(list)
        for row in rows:
            found[tuple(row[index] for index in exact)].append(row)
        return found

    expected_groups, actual_groups = groups(expected), groups(actual)
    missing, surplus = [], []
    for key in expected_groups.keys() | actual_groups.keys():
        left, right = expected_groups.get(key, []), actual_groups.get(key, [])
        if not inexact:
            missing += left[len(right) :]
            surplus += right[len(left) :]
            continue
        unmatched_left, unmatched_right = match(left, right, inexact, tolerances)
        missing += unmatched_left
        surplus += unmatched_right
    return missing, surplus


def match(left: list[tuple], right: list[tuple], columns: list[int], tolerances: list) -> tuple[list, list]:
    """Pairs rows that are equal within the tolerances of `columns`: a maximum matching, by augmenting paths.

    Equality within a tolerance is not transitive, so taking any partner that fits could leave a row without one.
    """

    def fits(one: tuple, other: tuple) -> bool:
        return all(tolerances[index].equal(one[index], other[index]) for index in columns)

    partner_of_right: dict[int, int] = {}
    # Sorted alike, equal rows are near each other: the first candidates tried are mostly the right ones.
    left, right = sorted(left, key=sort_key), sorted(right, key=sort_key)

    def candidates(index: int) -> list[int]:
        return sorted(
            (other for other in range(len(right)) if fits(left[index], right[other])), key=lambda o: abs(o - index)
        )

    def place(index: int, tried: set[int]) -> bool:
        for other in candidates(index):
            if other in tried:
                continue
            tried.add(other)
            if other not in partner_of_right or place(partner_of_right[other], tried):
                partner_of_right[other] = index
                return True
        return False

    unmatched_left = [left[index] for index in range(len(left)) if not place(index, set())]
    unmatched_right = [right[other] for other in range(len(right)) if other not in partner_of_right]
    return unmatched_left, unmatched_right


def sort_key(row: tuple) -> tuple:
    return tuple((value is not None, str(type(value)) if value is None else value) for value in row)


def compare_sequence(expected: list[tuple], actual: list[tuple], tolerances: list, order: tuple[int, ...]) -> list[str]:
    """The ORDER BY columns must run alike; rows that tie in all of them may come in any order."""
    for position, (left, right) in enumerate(zip(expected, actual)):
        for index in order:
            tolerance = tolerances[index]
            equal = tolerance.equal(left[index], right[index]) if tolerance else left[index] == right[index]
            if not equal:
                return [f"row {position + 1} is out of order: {show(right)} instead of {show(left)}"]
    return []


def show(row: tuple) -> str:
    return " | ".join(show_value(value) for value in row)


def show_value(value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (decimal.Decimal, datetime.date)):
        return str(value)
    return repr(value)
