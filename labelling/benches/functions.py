"""Votes of labelling functions by pandas, the way that the experiments of functions.rs are measured against.

Reads FOLDER/rows.csv and FOLDER/*.py, calls `DataFrame.apply` with each function, writes FOLDER/NAME.votes, one vote a line, and prints
the processor time of each as JSON.
"""

import json
import sys
import time
from pathlib import Path

import pandas

folder = Path(sys.argv[1])
frame = pandas.read_csv(folder / "rows.csv", float_precision="round_trip", parse_dates=["seen"], keep_default_na=False)
seconds = {}
for path in sorted(folder.glob("*.py")):
    names = {}
    exec(path.read_text(), names)
    begin = time.process_time()
    votes = frame.apply(names["labeling_function"], axis=1)
    seconds[path.stem] = time.process_time() - begin
    path.with_suffix(".votes").write_text("\n".join(str(vote) for vote in votes))
print(json.dumps(seconds))
