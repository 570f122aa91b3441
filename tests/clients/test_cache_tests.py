"""The tests for HTTP caches of cache-tests.fyi, on a path that passes through: nothing is reused, nothing altered."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from programs import Larder, Program

HERE = Path(__file__).with_name("cache-tests")


def failing():
    """How each test fails that is expected to, by its id."""
    expected, pattern = {}, None
    for line in (HERE / "failing.txt").read_text().splitlines():
        if line.startswith("= "):
            pattern = line.removeprefix("= ")
        elif line and not line.startswith("#"):
            assert line not in expected, line
            expected[line] = pattern
    return expected


class CacheTests(unittest.TestCase):
    def test_what_fails_is_what_only_a_cache_of_everything_would_do(self):
        suite = Program(["node", HERE / "run.mjs", os.environ["CACHE_TESTS"]], "stdout", stdin=subprocess.PIPE)
        self.addCleanup(lambda: suite.process.poll() is None and suite.stop())
        self.addCleanup(suite.process.stdin.close)
        with tempfile.TemporaryDirectory(prefix="larder-clients-") as directory:
            larder = Larder(suite.next_line().strip(), directory)
            try:
                print(larder.url, file=suite.process.stdin, flush=True)
                results = json.loads(suite.next_line())
                answers = larder.answers()
            finally:
                self.assertEqual(larder.stop(), 0)
        self.assertGreater(len(results), 300)
        self.assertEqual({outcome for (_, outcome), count in answers.items() if count}, {"pass"})
        expected = failing()
        failed = {test["id"]: test["failed"][1] for test in results if test["failed"]}
        self.assertEqual(sorted(failed), sorted(expected))
        for test, how in failed.items():
            with self.subTest(test=test):
                self.assertIsNotNone(re.fullmatch(expected[test], how), how)
