"""The TPC-H tables and the 22 queries of `inshore demo`, with the specification's validation parameters."""

import argparse
import dataclasses
import functools
import pathlib
import re

QUERY_DIR = pathlib.Path(__file__).resolve().parent.parent / "cli/src/demo/queries"

TABLES = ("lineitem", "orders", "customer", "part", "partsupp", "supplier", "nation", "region")

# Tables that are partitioned in the month variants, with the column whose month it is.
MONTH_COLUMN = {"lineitem": "l_shipdate", "orders": "o_orderdate"}

# The four ways the same rows are written; each is a namespace of the lake.
NAMESPACES = ("tpch_append", "tpch_add", "tpch_append_month", "tpch_add_month")

# The name of the catalog, in the configuration and inside its database.
CATALOG = "lake"

# Columns of each query's ORDER BY, by their position in the result. Their values must come in the same sequence
# from every engine, also where rows that tie may come in any order.
_ORDER = {
    1: (0, 1), 2: (0, 2, 1, 3), 3: (1, 2), 4: (0,), 5: (1,), 7: (0, 1, 2), 8: (0,), 9: (0, 1), 10: (2,), 11: (1,),
    12: (0,), 13: (1, 0), 15: (0,), 16: (3, 0, 1, 2), 18: (4, 3), 20: (0,), 21: (1, 0), 22: (0,),
}  # fmt: skip

# A table name in a FROM list. Elsewhere the same word is something else: Q8 and Q9 have a column `nation`.
_TABLE_IN_FROM = re.compile(r"(\bfrom\s+|\bjoin\s+|,\s*)(" + "|".join(TABLES) + r")\b", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Query:
    """One query: its number, its text with unqualified table names, its ORDER BY columns."""

    number: int
    text: str
    order: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"Q{self.number}"

    def sql(self, schema: str | None = None) -> str:
        """The text, its tables qualified with `schema` ("namespace" or "catalog.namespace")."""
        if schema is None:
            return self.text
        return _TABLE_IN_FROM.sub(rf"\g<1>{schema}.\g<2>", self.text)


@functools.cache
def queries() -> tuple[Query, ...]:
    """All 22, in order."""
    return tuple(
        Query(number, (QUERY_DIR / f"q{number:02}.sql").read_text(), _ORDER.get(number, ())) for number in range(1, 23)
    )


def select(spec: str | None) -> list[Query]:
    """The queries of a list such as "1,3,6-9"; all of them for None."""
    if spec is None:
        return list(queries())
    numbers = set()
    for part in spec.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise argparse.ArgumentTypeError(f'queries are given as "1,3,6-9", not {spec!r}')
        numbers.update(range(int(first), int(last or first) + 1))
    if not numbers or not numbers <= set(range(1, 23)):
        raise argparse.ArgumentTypeError(f"queries are numbered 1 to 22, not {spec!r}")
    return [query for query in queries() if query.number in numbers]
