"""A table that kill_writers.py writes, in a local lake or in a REST catalog: what of it is checked from outside."""

import pathlib

import duckdb
from pyarrow import fs
from pyiceberg.catalog import Catalog

import check_rest
import duckdb_peer
import lake as lakes
import manifest_checker


class LocalTable:
    """One in a SQLite catalog, with its files in the local file system."""

    def __init__(self, folder: pathlib.Path, namespace: str, table: str):
        self.lake = lakes.Lake(folder)
        self.lake.warehouse.mkdir(parents=True)
        self.name = f"{namespace}.{table}"
        self.folder = self.lake.warehouse / namespace / table

    def catalog(self) -> Catalog:
        return self.lake.catalog()

    def location(self) -> str:
        """Of the current metadata file."""
        return self.catalog().load_table(self.name).metadata_location

    def watched(self, aim: str) -> list[pathlib.Path]:
        """The folders that change while writers write data, or metadata. PyIceberg has one for each partition."""
        data = self.folder / "data"
        return [self.folder / "metadata"] if aim == "metadata" else [data, *data.glob("*/")]

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """A connection that reads the table's files."""
        con = duckdb_peer.connect(threads=2)
        duckdb_peer.load_iceberg(con)
        return con

    def files(self) -> set[str]:
        """All that there are, the unfinished included."""
        return {f"file://{path}" for path in self.folder.rglob("*") if path.is_file()}

    def referenced(self) -> tuple[set[str], list[str]]:
        """The files that belong to the table, and what is wrong with its manifests."""
        checker = manifest_checker.check_table(self.location())
        print(f"{checker.data_files} data files and {len(checker.manifests)} manifests checked")
        referenced = {f"file://{manifest_checker.local(path)}" for path in checker.referenced}
        return referenced, [f"manifests: {problem}" for problem in checker.problems]

    def stop(self) -> None:
        pass


class RestLake:
    """What a cluster has to know of a service."""

    def __init__(self, service: check_rest.Service):
        self.service = service

    def config(self) -> str:
        ports = {"rest": self.service.rest, "s3": self.service.s3}
        keys = {"user": check_rest.USER, "secret": check_rest.SECRET}
        return check_rest.CONFIG.format(bucket=check_rest.BUCKET, **ports, **keys)


class RestTable:
    """One in SeaweedFS's REST catalog and object store."""

    def __init__(self, folder: pathlib.Path, namespace: str, table: str):
        folder.mkdir(parents=True)
        self.service = check_rest.Service(folder)
        try:
            self.service.wait()
        except BaseException:
            self.service.stop()
            raise
        self.lake = RestLake(self.service)
        self.name = f"{namespace}.{table}"

    def catalog(self) -> Catalog:
        return self.service.catalog()

    def location(self) -> str:
        return self.catalog().load_table(self.name).metadata_location

    def watched(self, _aim: str) -> list[pathlib.Path]:
        """None: the store's own files say nothing of a table's."""
        return []

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        con = duckdb_peer.connect(threads=2)
        duckdb_peer.load_iceberg(con)
        con.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{check_rest.USER}', SECRET '{check_rest.SECRET}', REGION 'us-east-1',"
            f" ENDPOINT '127.0.0.1:{self.service.s3}', URL_STYLE 'path', USE_SSL false)"
        )
        return con

    def files(self) -> set[str]:
        store = fs.S3FileSystem(
            access_key=check_rest.USER,
            secret_key=check_rest.SECRET,
            region="us-east-1",
            scheme="http",
            endpoint_override=f"127.0.0.1:{self.service.s3}",
        )
        root = self.catalog().load_table(self.name).location().removeprefix("s3://").rstrip("/")
        found = store.get_file_info(fs.FileSelector(root, recursive=True))
        return {f"s3://{file.path}" for file in found if file.type == fs.FileType.File}

    def referenced(self) -> tuple[set[str], list[str]]:
        """By PyIceberg: the checker of manifests reads local files."""
        table = self.catalog().load_table(self.name)
        found = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
        for snapshot in table.metadata.snapshots:
            found.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                if manifest.manifest_path in found:
                    continue
                found.add(manifest.manifest_path)
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                found |= {entry.data_file.file_path for entry in entries}
        return found, []

    def stop(self) -> None:
        self.service.stop()
