"""Counts distinct devices per room and hour with DuckDB, and adds them up to buildings and the campus.

The limit of the experiment `dataset` of occupancy.rs. Reads FOLDER/sessions.csv (mac, space, start, finish in seconds), makes a
Parquet file of it, which is not timed, and prints the wall time of the counting and the campus's first number as JSON.
"""

import json
import sys
import time
from pathlib import Path

import duckdb

folder = Path(sys.argv[1])
parquet = folder / "sessions.parquet"
database = duckdb.connect()
database.execute(f"COPY (SELECT * FROM '{folder / 'sessions.csv'}') TO '{parquet}' (FORMAT parquet)")

begin = time.perf_counter()
database.execute(
    f"""
    CREATE TABLE rooms AS
    SELECT space, bin, count(DISTINCT mac) AS number
    FROM (SELECT mac, space, unnest(range(start // 3600, (finish - 1) // 3600 + 1)) AS bin FROM '{parquet}')
    GROUP BY space, bin;
    CREATE TABLE buildings AS
    SELECT 10 + (space - 1000) // 100 AS space, bin, sum(number) AS number FROM rooms GROUP BY ALL;
    CREATE TABLE campus AS SELECT bin, sum(number) AS number FROM buildings GROUP BY bin;
    """
)
for table in ("rooms", "buildings", "campus"):
    database.execute(f"COPY (SELECT * FROM {table} ORDER BY ALL) TO '{folder / table}.parquet' (FORMAT parquet)")
seconds = time.perf_counter() - begin
first = database.execute("SELECT number FROM campus ORDER BY bin LIMIT 1").fetchone()[0]
print(json.dumps({"seconds": seconds, "first": int(first)}))
