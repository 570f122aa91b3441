"""@gitbeaker/rest, the client for JavaScript: archives and files by job and by ref, keep, delete."""

import json
import os
from pathlib import Path

from between import Between
from programs import Dialogue

PROGRAM = Path(__file__).with_name("gitbeaker") / "client.mjs"


class Gitbeaker(Between):
    job_count = 3

    def setUp(self):
        super().setUp()
        self.client = Dialogue("node", PROGRAM, os.environ["GITBEAKER"], self.larder.url, self.personal)
        self.addCleanup(self.client.close)
        self.project = self.fixture["project"]["path"]

    def download(self, **what):
        got = self.client.call("downloadArchive", self.project, what)
        self.larder.settle()
        return got

    def assert_files(self, files, **of):
        for name, content in files.items():
            with self.subTest(file=name):
                got = self.download(artifactPath=name, **of)
                if isinstance(got, dict):
                    self.assertEqual(got, {"json": json.loads(content)})
                else:
                    self.assert_bytes(got, content)

    def test_an_archive_and_its_files_by_job(self):
        site = self.fixture["site"]
        archive, files = self.members_of(site)
        for _ in range(2):
            self.assert_bytes(self.download(jobId=site["id"]), archive)
        self.assert_files(files, jobId=site["id"])
        self.assert_answers("job_entry", hit=len(files))

    def test_an_archive_and_its_files_by_ref(self):
        archive, files = self.members_of(self.fixture["site"])
        for _ in range(2):
            self.assert_bytes(self.download(ref="release/1.0", job="site"), archive)
        self.assert_files(files, ref="release/1.0", job="site")
        self.assert_answers("ref_entry", hit=len(files))

    def test_a_kept_archive_is_still_a_hit(self):
        job = next(self.jobs)["id"]
        archive = self.download(jobId=job)
        self.assertEqual(self.client.call("keep", self.project, job)["json"]["id"], job)
        self.assert_bytes(self.download(jobId=job), archive)
        self.assert_answers("job_archive", stored=1, hit=1)
        self.assert_one_transfer()

    def test_a_removed_archive_is_gone_at_once(self):
        job = next(self.jobs)["id"]
        for _ in range(2):
            self.assertEqual(len(self.download(jobId=job)), self.size)
        self.assertEqual(self.client.call("remove", self.project, {"jobId": job}), {"json": None})
        self.assertEqual(self.download(jobId=job), {"status": 404})
        self.assertEqual(self.download(jobId=job, artifactPath="data.bin"), {"status": 404})
        self.assert_answers("job_archive", stored=1, hit=1, refused=1)
