"""What tools ask about catalogs, schemas, tables and columns."""

import pyarrow as pa
import pytest


@pytest.fixture
def made(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (id bigint NOT NULL, \"Tücke\" varchar COMMENT 'said', amount decimal(9, 2))")
    return table


def objects(connection, **filters) -> list[dict]:
    return connection.adbc_get_objects(**filters).read_all().to_pylist()


def schemas(found: list[dict]) -> dict:
    return {space["db_schema_name"]: space for catalog in found for space in catalog["catalog_db_schemas"] or []}


def test_catalogs(connection):
    assert "lake" in [catalog["catalog_name"] for catalog in objects(connection, depth="catalogs")]
    assert objects(connection, depth="catalogs", catalog_filter="no%") == []


def test_schemas(connection):
    assert {"s", "system"} <= set(schemas(objects(connection, depth="db_schemas")))
    assert set(schemas(objects(connection, depth="db_schemas", db_schema_filter="_"))) == {"s"}


def test_tables(connection, made):
    found = schemas(objects(connection, depth="tables", db_schema_filter="s"))["s"]["db_schema_tables"]
    assert {"table_name": made, "table_type": "TABLE"}.items() <= next(t for t in found if t["table_name"] == made).items()
    none = schemas(objects(connection, depth="tables", table_name_filter="nothing%"))
    assert not any(space["db_schema_tables"] for space in none.values())


def test_columns(connection, made):
    found = schemas(objects(connection, depth="all", db_schema_filter="s", table_name_filter=made))
    [table] = found["s"]["db_schema_tables"]
    columns = {column["column_name"]: column for column in table["table_columns"]}
    assert list(columns) == ["id", "Tücke", "amount"]
    assert [column["ordinal_position"] for column in table["table_columns"]] == [1, 2, 3]
    assert columns["amount"]["xdbc_type_name"]
    one = schemas(objects(connection, depth="all", table_name_filter=made, column_name_filter="a%"))
    [table] = one["s"]["db_schema_tables"]
    assert [column["column_name"] for column in table["table_columns"]] == ["amount"]


def test_the_schema_of_a_table(connection, made):
    schema = connection.adbc_get_table_schema(made, db_schema_filter="s")
    assert schema.names == ["id", "Tücke", "amount"]
    assert schema.types == [pa.int64(), pa.string(), pa.decimal128(9, 2)]
    # The driver hands it on here, and not with the objects.
    assert schema.field("Tücke").metadata[b"ARROW:FLIGHT:SQL:REMARKS"] == b"said"


def test_table_types(connection):
    assert {"TABLE", "VIEW"} <= set(connection.adbc_get_table_types())


def test_keys(connection, cursor, made):
    cursor.execute(f"ALTER TABLE {made} SET IDENTIFIER FIELDS id")
    found = schemas(objects(connection, depth="all", db_schema_filter="s", table_name_filter=made))
    [table] = found["s"]["db_schema_tables"]
    for constraint in table["table_constraints"] or []:
        assert constraint["constraint_column_names"] == ["id"]


def test_information_schema_says_the_same(connection, cursor, made):
    cursor.execute("SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 's'")
    told = sorted(cursor.fetchall())
    found = schemas(objects(connection, depth="tables", db_schema_filter="s"))["s"]["db_schema_tables"]
    assert sorted(("s", table["table_name"]) for table in found) == told
