"""Do you have the same files? The 300 frontal matrices that results.md and replication.md speak of, by their hashes.

    python benchmarks/frontal_files.py FOLDER          compare every file below a folder with the list
    python benchmarks/frontal_files.py --list WS       print such a list of an imported workspace

``frontal_files.csv`` holds SHA-256 of the file as published, patient, visit, date and layout: no pixel and no label.
Exit code 1 where a listed file is not there.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from thermocancer.data.catalog import read_catalog
from thermocancer.files import hash_file
from thermocancer.workspace import Workspace

LIST = Path(__file__).with_suffix(".csv")
FIELDS = ("sha256", "patient", "visit", "date", "layout")


def print_list(workspace: Path) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    records = sorted(read_catalog(Workspace(workspace)), key=lambda each: (each.patient, each.visit))
    writer.writerows(
        (each.extra["original_sha256"], each.patient, each.visit, each.date, each.layout) for each in records
    )


def compare(folder: Path, listed: Path = LIST) -> int:
    with listed.open(newline="") as stream:
        wanted = {row["sha256"]: row for row in csv.DictReader(stream)}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(hash_file(path), []).append(path)
    missing = [row for digest, row in wanted.items() if digest not in found]
    twice = sum(len(paths) - 1 for digest, paths in found.items() if digest in wanted)
    others = sum(len(paths) for digest, paths in found.items() if digest not in wanted)
    print(f"{len(wanted) - len(missing)} of {len(wanted)} listed contents are there"
          f"; {twice} of them more than once, {others} other files")  # fmt: skip
    for row in missing[:10]:
        print(f"  missing: patient {row['patient']}, visit {row['visit']}, {row['date']}, {row['layout']}")
    if len(missing) > 10:
        print(f"  and {len(missing) - 10} more")
    return 1 if missing else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of files, or with --list an imported workspace")
    parser.add_argument("--list", action="store_true", help="print the list of a workspace instead")
    given = parser.parse_args()
    sys.exit(print_list(given.folder) if given.list else compare(given.folder))


if __name__ == "__main__":
    main()
