"""Prints every row of every dataset below a folder, as DuckDB reads them and as pandas does.

    python rows.py FOLDER

One JSON document: {"duckdb": {dataset: {"columns": {name: type}, "rows": [[value, …], …]}}, "pandas": {…}}. Times are microseconds since
1970, decimals are texts with four digits behind the point, structs are lists of their fields; null and not-a-number are null. The column
that folders add (`day`) comes last.
"""

import datetime
import decimal
import json
import math
import pathlib
import sys

import duckdb
import numpy
import pandas

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value):
    """A value as JSON has it."""
    if value is None or value is pandas.NaT or value is pandas.NA:
        return None
    if isinstance(value, (list, tuple, numpy.ndarray)):
        return [plain(element) for element in value]
    if isinstance(value, dict):
        return [plain(field) for field in value.values()]
    if isinstance(value, datetime.datetime):
        # Without a zone UTC is meant.
        value = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, (datetime.date, decimal.Decimal)):
        return str(value)
    if isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def by_duckdb(folder):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    found = connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = true)", [f"{folder}/**/*.parquet"])
    columns = {name: str(kind) for name, kind, *_ in found.description}
    return {"columns": columns, "rows": [[plain(value) for value in row] for row in found.fetchall()]}


def by_pandas(folder):
    frame = pandas.read_parquet(folder)
    columns = {name: str(kind) for name, kind in frame.dtypes.items()}
    return {"columns": columns, "rows": [[plain(value) for value in row] for row in frame.itertuples(index=False, name=None)]}


def main():
    root = pathlib.Path(sys.argv[1])
    datasets = sorted(folder for folder in root.iterdir() if folder.is_dir() and any(folder.rglob("*.parquet")) and folder.name[0] != "_")
    readers = {"duckdb": by_duckdb, "pandas": by_pandas}
    json.dump({name: {folder.name: read(str(folder)) for folder in datasets} for name, read in readers.items()}, sys.stdout)


main()
