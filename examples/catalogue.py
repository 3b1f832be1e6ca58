#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Debian's package catalogue as records: the key is the package's name, the
value its stanza. One JSON line a record, as `replikv load` reads them.

    catalogue.py records COUNT < STANZAS  the first COUNT packages; 0: all
    catalogue.py updates < RECORDS        every tenth of them, changed
    catalogue.py compare FILE... < DUMP   what `replikv dump` printed is what
                                          the files say, later ones first
"""

import json
import sys

SHOWN_MAX = 5


def write(key, value):
    print(json.dumps({"key": key, "value": value}, ensure_ascii=False))


def packages():
    """The first stanza of each name: other architectures repeat it."""
    seen = set()
    for stanza in sys.stdin.read().split("\n\n"):
        field, _, name = stanza.strip("\n").partition("\n")[0].partition(": ")
        if field == "Package" and name not in seen:
            seen.add(name)
            yield name, stanza.strip("\n") + "\n"


def records(count):
    for i, (name, stanza) in enumerate(packages()):
        if 0 < count <= i:
            break
        write(name, stanza)


def updates():
    for i, line in enumerate(sys.stdin):
        if i % 10 == 0:
            record = json.loads(line)
            write(record["key"], record["value"] + "Updated: yes\n")


def read(lines):
    """A record with siblings has no one value; it equals nothing."""
    parsed = map(json.loads, lines)
    return {record["key"]: record.get("value") for record in parsed}


def compare(files):
    expected = {}
    for name in files:
        with open(name, encoding="utf-8") as file:
            expected.update(read(file))
    found = read(sys.stdin)
    wrong = [key for key in expected.keys() | found.keys()
             if expected.get(key) != found.get(key)]
    if wrong:
        shown = ", ".join(sorted(wrong)[:SHOWN_MAX])
        sys.exit(f"{len(wrong)} records differ, among them {shown}")


def main():
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    sys.stdout.reconfigure(encoding="utf-8")
    match sys.argv[1:]:
        case ["records", count]:
            records(int(count))
        case ["updates"]:
            updates()
        case ["compare", *files]:
            compare(files)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"catalogue.py: {type(error).__name__}: {error}")
