# SPDX-License-Identifier: MIT
"""replikv lsm check and dump: what they print of a node's store, of one that
is written meanwhile, and of damaged ones; and what they say of other things."""

import json
import os
import re
import shutil
import subprocess
import unittest

from harness import REPLIKV, SMALL_TREE, Cluster, flip

SOUND, DAMAGED, USAGE, REFUSED = range(4)
KEYS = 3000
RECORDS = 4


def run(*arguments, expect=SOUND):
    ran = subprocess.run([REPLIKV, *arguments], capture_output=True,
                         timeout=120, check=False)
    assert ran.returncode == expect, (arguments, ran)
    return ran.stdout.decode(), ran.stderr.decode()


def newest_log(store):
    """The one with the last records, and where they begin; of a store that is
    open it may just have become a table."""
    logs = json.loads(run("--json", "lsm", "check", store)[0])["logs"]
    names = [log["file"] for log in logs if log["end"] != "empty"]
    path = os.path.join(store, names[-1] if names else "none")
    dumped = subprocess.run([REPLIKV, "--json", "lsm", "dump", path],
                            capture_output=True, timeout=120, check=False)
    lines = map(json.loads, dumped.stdout.decode().splitlines())
    return path, [line["offset"] for line in lines if line["type"] == "record"]


class LsmFiles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """A store that a node has written and been killed with: a clean stop
        saves hash trees, in a log of their own."""
        cls.cluster = Cluster("lsm", nodes=1, replicas=1,
                              sections={"storage": {"options": SMALL_TREE}})
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()
        node = cls.cluster.nodes[0]
        with subprocess.Popen(
                [REPLIKV, "--endpoint", node.endpoint(), "load"],
                stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as load:
            cls.live = []
            for i in range(KEYS):
                load.stdin.write(f"k{i:05}\t{i:0200}\n".encode())
                if i % 500 == 0:
                    load.stdin.flush()
                    cls.live.append(run("lsm", "check", node.data)[0])
            load.stdin.close()
            assert load.wait(120) == 0
        while len(newest_log(node.data)[1]) < RECORDS:
            run("--endpoint", node.endpoint(), "put", "more", "value")
        node.kill()
        cls.made = node.data

    def setUp(self):
        self.store = os.path.join(self.cluster.directory, self.id())
        shutil.copytree(self.made, self.store)
        self.addCleanup(shutil.rmtree, self.store)

    def path(self, ending, which=-1):
        names = [name for name in os.listdir(self.store)
                 if name.endswith(ending)]
        return os.path.join(self.store, sorted(names)[which])

    def check(self, expect=SOUND):
        return json.loads(
            run("--json", "lsm", "check", self.store, expect=expect)[0])

    def dump(self, path, expect=SOUND):
        lines = run("--json", "lsm", "dump", path, expect=expect)[0]
        return [json.loads(line) for line in lines.splitlines()]

    def test_a_store_that_is_written_is_sound_each_time(self):
        self.assertEqual(len(self.live), KEYS // 500)
        for shown in self.live:
            self.assertIn("\nsound\n", shown)

    def test_all_that_was_written_is_in_tables_and_logs(self):
        checked = self.check()
        self.assertTrue(checked["sound"])
        self.assertEqual(checked["damage"], [])
        keys = set()
        for name in os.listdir(self.store):
            if re.fullmatch(r"\d+\.(table|log)", name):
                keys |= {line["key"]
                         for line in self.dump(os.path.join(self.store, name))
                         if line.get("table") == "data"}
        self.assertEqual(keys - {"more"}, {f"k{i:05}" for i in range(KEYS)})
        tables = sum(level["tables"] for level in checked["levels"])
        named = [line for line in self.dump(os.path.join(self.store,
                                                         "MANIFEST"))
                 if line["type"] == "table"]
        self.assertEqual(len(named), tables)
        shown = run("lsm", "check", self.store)[0]
        self.assertRegex(shown, r"LEVEL +TABLES +BYTES")
        self.assertRegex(shown, r"data/0/[0-9a-f]{8}/k\d{5}")
        self.assertIn("\nsound\n", shown)

    def test_dumps_for_people_name_keys_and_values(self):
        shown = run("lsm", "dump", self.path(".table"))[0]
        self.assertRegex(shown, r"table \d+: \d+ bytes, \d+ entries")
        self.assertRegex(shown, r'data/\d+/[0-9a-f]{8}/k\d{5}  \d+ bytes  "')
        shown = run("lsm", "dump", self.path("MANIFEST"))[0]
        self.assertRegex(shown, r"next file \d+, first log \d+, sequence \d+")
        shown = run("lsm", "dump", newest_log(self.store)[0])[0]
        self.assertRegex(shown, r"record at offset 0, ")
        self.assertRegex(shown, r"open, no end record at offset \d+")

    def test_a_flipped_byte_of_a_table_is_named_and_passed_over(self):
        table = max((self.path(".table", which) for which in range(3)),
                    key=os.path.getsize)
        whole = self.dump(table)
        offsets = sorted({line["offset"] for line in whole
                          if line["type"] == "entry"})
        self.assertGreater(len(offsets), 2)
        flip(table, offsets[1] + 20)
        said = {"file": os.path.basename(table), "offset": offsets[1]}
        damage = self.check(DAMAGED)["damage"]
        self.assertEqual([{**place, **said} for place in damage], damage)
        self.assertEqual(len(damage), 1)
        shown = run("lsm", "check", self.store, expect=DAMAGED)[0]
        self.assertRegex(shown, fr"{said['file']} +{offsets[1]} ")
        self.assertIn("1 place is damaged", shown)
        lines = self.dump(table, DAMAGED)
        left = [line for line in whole if line.get("offset") != offsets[1]]
        self.assertEqual([line for line in lines if line["type"] != "damage"],
                         left)
        shown = run("lsm", "dump", table, expect=DAMAGED)[0]
        self.assertIn(f"DAMAGED at offset {offsets[1]}", shown)

    def test_a_flipped_byte_of_a_log_is_named_and_ends_the_dump(self):
        path, records = newest_log(self.store)
        flip(path, records[1] + 40)
        damage = self.check(DAMAGED)["damage"]
        self.assertEqual([(place["file"], place["offset"])
                          for place in damage],
                         [(os.path.basename(path), records[1])])
        lines = self.dump(path, DAMAGED)
        self.assertEqual([line["offset"] for line in lines
                          if line["type"] == "record"], [0])
        self.assertEqual(lines[-2]["type"], "damage")

    def test_what_is_cut_short_or_missing_is_named(self):
        table = self.path(".table")
        size = os.path.getsize(table)
        os.truncate(table, size - 1)
        self.assertIn("cut short", run("lsm", "dump", table,
                                       expect=DAMAGED)[0])
        self.check(DAMAGED)
        os.unlink(table)
        damage = self.check(DAMAGED)["damage"]
        self.assertEqual([(place["file"], place["what"]) for place in damage],
                         [(os.path.basename(table), "missing")])
        manifest = self.path("MANIFEST")
        flip(manifest, 20)
        self.assertEqual(self.check(DAMAGED)["damage"][0]["file"], "MANIFEST")
        self.assertEqual(self.dump(manifest, DAMAGED)[0]["type"], "damage")

    def test_other_files_are_listed_and_no_damage(self):
        for name in ("notes.txt", "99999999.table"):
            with open(os.path.join(self.store, name), "wb"):
                pass
        unnamed = {found["file"] for found in self.check()["unnamed"]}
        self.assertLessEqual({"notes.txt", "99999999.table"}, unnamed)

    def test_what_is_no_store_is_refused_with_what_to_do(self):
        table = self.path(".table")
        other = os.path.join(self.store, "copy.table")
        shutil.copy(table, other)
        empty = os.path.join(self.store, "empty")
        os.mkdir(empty)
        for arguments, code, said in (
                (["check"], USAGE, "too little: it is replikv lsm check DIR"),
                (["fly"], USAGE, "not \"fly\""),
                ([], USAGE, "check DIR or dump FILE"),
                (["check", "/does/not/exist"], USAGE, "No such file"),
                (["check", table], USAGE, "lsm dump"),
                (["check", empty], USAGE, "no ENGINE file"),
                (["dump", self.store], USAGE, "lsm check"),
                (["dump", table + "x"], USAGE, "No such file"),
                (["dump", other], USAGE, "00000007.table"),
                (["dump", self.path("ENGINE")], USAGE, "00000007.table")):
            with self.subTest(arguments):
                self.assertIn(said, run("lsm", *arguments, expect=code)[1])
        with open(self.path("ENGINE"), "w", encoding="ascii") as file:
            file.write("lmdb\n")
        self.assertIn('engine "lmdb"', run("lsm", "check", self.store,
                                           expect=REFUSED)[1])


if __name__ == "__main__":
    unittest.main()
