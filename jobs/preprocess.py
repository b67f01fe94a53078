"""Clean one CSV file and write it as Parquet. Plain pandas: it runs in any container, or by hand.

python -m preprocess INPUT OUTPUT [--required COLUMN ...]

INPUT and OUTPUT are paths or URIs (s3://, gs://, abfs://, with the file system's package installed). Names of columns
become lower_case, texts lose the blanks around them, empty and repeated rows go, and so do rows without a value in a
required column. A file that is no table ends with exit code 1.
"""

from __future__ import annotations

import argparse
import re

import pandas as pd


def clean(table: pd.DataFrame, required: list[str]) -> pd.DataFrame:
    """The same table without what nobody wants in it."""
    table = table.rename(columns=lambda name: re.sub(r"\W+", "_", str(name).strip().lower()).strip("_"))
    for name in table.select_dtypes(include=["object", "string"]):
        table[name] = table[name].str.strip().replace("", None)
    return table.dropna(how="all").dropna(subset=required).drop_duplicates(ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--required", nargs="*", default=[], metavar="COLUMN")
    options = parser.parse_args()
    raw = pd.read_csv(options.input, skipinitialspace=True)
    table = clean(raw, options.required)
    table.to_parquet(options.output, index=False)
    print(f"{options.input}: {len(raw)} rows, {len(table)} kept")


if __name__ == "__main__":
    main()
