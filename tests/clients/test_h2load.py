"""h2load: thousands of requests over many streams at once, of which none may fail, and after which nothing stays open."""

import re
import subprocess

import certificate
from between import Between
from programs import ENVIRONMENT, PATIENCE, until

ALL = "requests: {0} total, {0} started, {0} done, {0} succeeded, 0 failed, 0 errored, 0 timeout"


class Load(Between):
    job_count = 2
    # Some slices of larder's.
    size = (2 << 20) + 17
    log_level = "info"

    @classmethod
    def settings(cls):
        return certificate.settings(cls.scratch)[0]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.open_at_first = cls.larder.descriptors()

    @classmethod
    def tearDownClass(cls):
        """Nothing has stayed open but the archives that are held open for the next one who asks."""
        try:
            until(lambda: "\nlarder_connections 0\n" in cls.larder.metrics())
            # With it end the connections that are kept for the next request.
            cls.gitlab.stop()
            until(lambda: cls.larder.descriptors() <= cls.open_at_first + cls.job_count)
        finally:
            super().tearDownClass()

    def load(self, url, requests, *arguments):
        """Each of 20 connections has 25 streams at a time, or, of HTTP/1.1, one request."""
        # A window of 1 MiB for each, so that all get on.
        shape = ("-n", str(requests), "-c", "20", "-m", "25", "-w", "20", "-W", "20")
        ran = subprocess.run(
            ("h2load", *shape, *arguments, "-H", f"PRIVATE-TOKEN: {self.personal}", url),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn(ALL.format(requests), ran.stdout)
        self.assertIn(f"status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx", ran.stdout)
        return int(re.search(r"^traffic: .* headers .*\((\d+)\) data$", ran.stdout, re.MULTILINE)[1])

    def each_protocol(self, act):
        for base in (self.larder.url, self.larder.tls_url):
            for arguments in ((), ("--h1",)):
                with self.subTest(base=base, arguments=arguments):
                    act(base, *arguments)

    def test_a_crowd_on_one_cold_archive_costs_one_transfer(self):
        job = next(self.jobs)
        received = self.load(self.larder.url + job["path"], 200)
        self.assertGreaterEqual(received, 200 * self.size)
        self.larder.settle()
        self.assert_one_transfer()

    def test_thousands_of_hits_all_succeed(self):
        job = next(self.jobs)
        self.load(self.larder.url + job["path"], 20)
        self.larder.settle()
        # Across the seam of two slices.
        self.each_protocol(lambda *way: self.hits(job, *way))

    def hits(self, job, base, *arguments):
        part = ("-H", "Range: bytes=1040384-1056767")
        self.assertEqual(self.load(base + job["path"], 2000, *part, *arguments), 2000 << 14)

    def test_thousands_of_pass_throughs_all_succeed(self):
        sent = self.scratch / "sent"
        sent.write_bytes(bytes(3000))
        self.each_protocol(lambda base, *arguments: self.load(f"{base}/bytes/3000", 2000, *arguments))
        self.each_protocol(lambda base, *arguments: self.load(f"{base}/sink", 1000, "-d", str(sent), *arguments))
