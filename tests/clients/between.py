"""A test class with larder between its clients and a GitLab of its own."""

import contextlib
import io
import tempfile
import unittest
import zipfile
from pathlib import Path

import curl
from programs import Larder, StandIn

MISS = "larder; fwd=miss; stored"
HIT = "larder; hit"

# What GitLab may send besides the archive for each request it gets: a probe's last KiB, or a redirect's text.
SMALL = 2048

# Fields whose value belongs to one answer, with those that larder adds.
OF_ONE_ANSWER = {
    "age",
    "cache-status",
    "date",
    "ratelimit-observed",
    "ratelimit-remaining",
    "via",
    "x-gitlab-meta",
    "x-request-id",
    "x-runtime",
}


class Between(unittest.TestCase):
    """Starts both once for its tests and ends them after the last. Each test takes a job of its own by `next`, so
    that each begins cold."""

    storage = "local-sha256"
    job_count = 1
    size = 1 << 20
    log_level = "trace"

    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as starting:
            cls.directory = starting.enter_context(tempfile.TemporaryDirectory(prefix="larder-clients-"))
            cls.scratch = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="larder-scratch-")))
            cls.gitlab = StandIn(cls.storage, cls.job_count, cls.size, cls.files())
            starting.callback(cls.gitlab.stop)
            cls.fixture = cls.gitlab.fixture
            cls.larder = Larder(cls.upstream(starting), cls.directory, cls.settings(), cls.log_level)
            starting.callback(lambda: cls.larder.process.poll() is not None or cls.larder.stop())
            cls.jobs = iter(cls.fixture["jobs"])
            cls.personal = cls.fixture["personal_token"]
            cls.job_token = cls.fixture["job_token"]
            cls.started = starting.pop_all()

    @classmethod
    def tearDownClass(cls):
        cls.started.close()

    @classmethod
    def files(cls):
        """Archives of the test's own, as paths; `cls.scratch` is there for them."""
        return []

    @classmethod
    def upstream(cls, starting):
        """Where larder finds GitLab. What is started for it is ended by `starting`."""
        return cls.gitlab.url

    @classmethod
    def settings(cls):
        """larder's, by key, where a test wants others than the defaults."""
        return {}

    def setUp(self):
        self.before = self.gitlab.archive_bytes()
        self.requests_before = self.requests()
        self.answers_before = self.larder.answers()

    def requests(self):
        return sum(self.gitlab.counters()["statuses"].values())

    def assert_one_transfer(self, size=None):
        """One archive has left GitLab in this test, besides what its other answers weigh."""
        size = size or self.size
        sent = self.gitlab.archive_bytes() - self.before
        spare = (self.requests() - self.requests_before) * SMALL
        self.assertLess(spare, size, "too many requests for this test to tell")
        self.assertGreaterEqual(sent, size)
        self.assertLessEqual(sent, size + spare)

    def of_gitlab(self, path, *arguments):
        """What GitLab itself answers the maintainer, whose token doesn't follow to an object store."""
        query = f"{'&' if '?' in path else '?'}private_token={self.personal}"
        answer = curl.get(self.gitlab.url + path + query, "--location", *arguments)
        self.assertEqual(answer.status, 200, answer.body[:200])
        return answer.body

    def members_of(self, job):
        """A job's archive, and what Python's zipfile finds in it: bytes by name, directories left out."""
        archive = self.of_gitlab(job["path"])
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            files = {_name(info): opened.read(info) for info in opened.infolist() if not info.is_dir()}
        return archive, files

    def assert_answers(self, route, **outcomes):
        """How many requests of this test on a route have ended how, all of them."""
        counted = self.larder.answers() - self.answers_before
        ended = {outcome: count for (of, outcome), count in counted.items() if of == route}
        self.assertEqual(ended, outcomes, route)

    def assert_bytes(self, got, expected):
        """Without printing either."""
        self.assertEqual(len(got), len(expected))
        self.assertTrue(got == expected, "the bytes differ")


def _name(info):
    """A member's name as GitLab compares it: its bytes, which Python reads as code page 437 where the archive doesn't
    say that they are UTF-8."""
    utf8 = info.flag_bits & 0x800
    return info.filename if utf8 else info.filename.encode("cp437").decode()
