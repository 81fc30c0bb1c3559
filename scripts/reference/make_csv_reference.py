#!/usr/bin/env python3
"""Write tests/reference/csv.json: CSV files in the dialects that are read, and what pandas reads from them.

Needs pandas (written with 3.1.1); run from the repository's root:

    python3 scripts/reference/make_csv_reference.py
"""

import base64
import io
import json
from pathlib import Path

import pandas as pd

LABELS = [
    "cat", "big cat", "cat, dog", 'a 5" disk', '"quoted"', "semi;colon", "tab\there", "Größe", "|", "a'b",
    # What pandas takes for missing, and what it does not.
    "", "nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "<NA>", "NULL", "null", "None",
    "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
    "none", "Nan", "Null", "nil", "unknown", "na", "?", "-",
]  # fmt: skip
DIALECTS = [
    {"sep": ","},
    {"sep": ";", "lineterminator": "\r\n"},
    {"sep": "\t", "lineterminator": "\r", "quoting": 1},
    {"sep": "|", "quoting": 1},
    {"sep": ",", "encoding": "utf-8-sig", "lineterminator": "\r\n"},
    {"sep": "\t", "encoding": "utf-16"},
    {"sep": ";", "quoting": 1, "encoding": "utf-8-sig"},
]


def case(dialect):
    frame = pd.DataFrame({"path": [f"img {n}.jpg" for n in range(len(LABELS))], "label": LABELS})
    frame["note"] = ["two\nlines, or three" if n % 3 == 0 else "x" for n in range(len(LABELS))]
    encoding = dialect.get("encoding", "utf-8")
    text = frame.to_csv(None, index=False, **{k: v for k, v in dialect.items() if k != "encoding"})
    content = text.encode(encoding)
    read = pd.read_csv(io.BytesIO(content), sep=dialect["sep"], dtype=str, encoding=encoding)
    rows = [[path, None if pd.isna(label) else label] for path, label in zip(read["path"], read["label"])]
    return {"dialect": dialect, "content": base64.b64encode(content).decode(), "rows": rows}


reference = {"pandas": pd.__version__, "cases": [case(dialect) for dialect in DIALECTS]}
Path("tests/reference/csv.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")
