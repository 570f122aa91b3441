"""Programs that fetch in parts and go on where they stopped: curl, wget, aria2."""

import re
import subprocess

import curl
from between import HIT, Between
from programs import ENVIRONMENT, PATIENCE

# What a broken download left behind; not a round number.
HAD = 1_234_567


class Transfers(Between):
    job_count = 10
    size = 30 << 20

    def setUp(self):
        super().setUp()
        self.job = next(self.jobs)
        self.url = self.larder.url + self.job["path"]
        self.header = f"PRIVATE-TOKEN: {self.personal}"
        self.here = self.scratch / str(self.job["id"])
        self.here.mkdir()
        self.file = self.here / "artifacts.zip"

    def fetch(self, *command):
        """Runs one of the programs in a directory of its own, until it ends well."""
        ran = subprocess.run(
            command, cwd=self.here, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertEqual(ran.returncode, 0, (ran.stdout + ran.stderr)[-2000:])
        self.larder.settle()

    def expected(self):
        return self.of_gitlab(self.job["path"])

    def curl(self, *arguments):
        answer = curl.get(self.url, "--header", self.header, *arguments)
        self.larder.settle()
        return answer

    def test_curl_goes_on_where_it_stopped_cold_and_hot(self):
        archive = self.expected()
        self.before = self.gitlab.archive_bytes()
        for _ in range(2):
            self.file.write_bytes(archive[:HAD])
            go_on = ("--silent", "--fail", "--continue-at", "-", "--output", str(self.file))
            self.fetch("curl", *go_on, "--header", self.header, self.url)
            self.assert_bytes(self.file.read_bytes(), archive)
        self.assert_one_transfer()

    def test_curl_reads_ranges_of_every_form_cold_and_hot(self):
        archive = self.expected()
        self.before = self.gitlab.archive_bytes()
        for given, expected in (
            ("0-0", archive[:1]),
            ("1048570-1048585", archive[1048570:1048586]),
            ("-1000", archive[-1000:]),
            ("31457000-", archive[31457000:]),
            ("31457000-99999999", archive[31457000:]),
        ):
            with self.subTest(range=given):
                answer = self.curl("--range", given)
                self.assertEqual(answer.status, 206)
                self.assert_bytes(answer.body, expected)
        self.assertEqual(answer.fields["cache-status"], HIT)
        beyond = self.curl("--range", "99999999-")
        self.assertEqual((beyond.status, beyond.fields["content-range"]), (416, f"bytes */{self.size}"))
        self.assert_one_transfer()

    def test_curl_reads_several_ranges_of_a_held_archive_at_once(self):
        archive = self.curl().body
        wanted = [(0, 9), (1048570, 1048585), (31457270, 31457279)]
        answer = self.curl("--range", ",".join(f"{first}-{last}" for first, last in wanted))
        self.assertEqual(answer.status, 206)
        self.assertEqual(answer.fields["cache-status"], HIT)
        boundary = re.fullmatch(r"multipart/byteranges; ?boundary=\"?([^\";]+)\"?", answer.fields["content-type"])
        self.assertIsNotNone(boundary, answer.fields["content-type"])
        first, *parts, last = answer.body.split(b"--" + boundary[1].encode())
        self.assertEqual((first.strip(), last.strip()), (b"", b"--"))
        self.assertEqual(len(parts), len(wanted))
        for part, (first, last) in zip(parts, wanted):
            head, _, content = part.partition(b"\r\n\r\n")
            self.assertIn(f"content-range: bytes {first}-{last}/{self.size}".encode(), head.lower())
            self.assertEqual(content.removesuffix(b"\r\n"), archive[first : last + 1])

    def test_curl_takes_a_text_file_compressed(self):
        site = self.fixture["site"]
        _, files = self.members_of(site)
        url = f"{self.larder.url}{site['path']}/log.txt"
        curl.get(self.larder.url + site["path"], "--header", self.header)
        self.larder.settle()
        plain = curl.get(url, "--header", self.header)
        self.assertNotIn("content-encoding", plain.fields)
        self.assert_bytes(plain.body, files["log.txt"])
        packed = curl.get(url, "--header", self.header, "--header", "Accept-Encoding: gzip")
        self.assertEqual(packed.fields["content-encoding"], "gzip")
        self.assertLess(len(packed.body), len(plain.body) // 10)
        unpacked = curl.get(url, "--header", self.header, "--compressed")
        self.assert_bytes(unpacked.body, files["log.txt"])
        for answer in (plain, packed, unpacked):
            self.assertEqual(answer.fields["cache-status"], HIT)

    def test_wget_goes_on_where_it_stopped_cold_and_hot(self):
        archive = self.expected()
        self.before = self.gitlab.archive_bytes()
        for _ in range(2):
            self.file.write_bytes(archive[:HAD])
            go_on = ("wget", "--no-verbose", "--tries=1", "--continue", "--output-document", str(self.file))
            self.fetch(*go_on, "--header", self.header, self.url)
            self.assert_bytes(self.file.read_bytes(), archive)
        self.assert_one_transfer()

    def test_wget_names_the_file_as_gitlab_does(self):
        for _ in range(2):
            self.file.unlink(missing_ok=True)
            self.fetch("wget", "--no-verbose", "--content-disposition", "--header", self.header, self.url)
            self.assert_bytes(self.file.read_bytes(), self.expected())
        self.assert_answers("job_archive", stored=1, hit=1)

    def aria2(self, url):
        self.file.unlink(missing_ok=True)
        eight = ("aria2c", "--no-conf", "--quiet", "-x8", "-s8", "-k1M", "--max-tries=1", "--out", self.file.name)
        self.fetch(*eight, "--header", self.header, url)
        return self.file.read_bytes()

    def test_aria2_with_eight_connections_costs_gitlab_one_transfer(self):
        archive = self.expected()
        self.before = self.gitlab.archive_bytes()
        for _ in range(3):
            self.assert_bytes(self.aria2(self.url), archive)
        self.assert_one_transfer()
        answers = self.larder.answers() - self.answers_before
        self.assertEqual(answers["job_archive", "stored"], 1)
        self.assertGreater(answers["job_archive", "hit"], 8)

    def test_aria2_by_ref_costs_gitlab_one_transfer(self):
        by_ref = self.fixture["refs"][0]["path"]
        archive = self.of_gitlab(by_ref)
        self.before = self.gitlab.archive_bytes()
        for _ in range(2):
            self.assert_bytes(self.aria2(self.larder.url + by_ref), archive)
        self.assert_one_transfer()
