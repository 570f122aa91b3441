"""ruby-gitlab: archives and files by job and by ref, keep, delete."""

from pathlib import Path

from between import Between
from programs import Dialogue

PROGRAM = Path(__file__).with_name("client.rb")

# What is ASCII throughout, or in a named character set, it takes for JSON, whoever sends it; this is neither.
FILE = "data.bin"


class RubyGitlab(Between):
    job_count = 4

    def setUp(self):
        super().setUp()
        self.client = Dialogue("ruby", PROGRAM, f"{self.larder.url}/api/v4", self.personal)
        self.addCleanup(self.client.close)
        self.project = self.fixture["project"]["path"]

    def call(self, method, *arguments):
        got = self.client.call(method, self.project, *arguments)
        self.larder.settle()
        return got

    def test_an_archive_and_its_file_by_job(self):
        job = next(self.jobs)
        archive, files = self.members_of(job)
        for _ in range(2):
            self.assert_bytes(self.call("job_artifacts", job["id"]), archive)
            self.assert_bytes(self.call("download_job_artifact_file", job["id"], FILE), files[FILE])
        self.assert_answers("job_archive", stored=1, hit=1)
        self.assert_answers("job_entry", hit=2)

    def test_an_archive_and_its_file_by_ref(self):
        archive, files = self.members_of(self.fixture["jobs"][-1])
        for _ in range(2):
            self.assert_bytes(self.call("job_artifacts_download", "main", "build"), archive)
            self.assert_bytes(self.call("download_branch_artifact_file", "main", FILE, "build"), files[FILE])
        self.assert_answers("ref_archive", stored=1, hit=1)
        self.assert_answers("ref_entry", hit=2)

    def test_a_kept_archive_is_still_a_hit(self):
        job = next(self.jobs)["id"]
        archive = self.call("job_artifacts", job)
        self.assertEqual(self.call("job_artifacts_keep", job)["json"]["id"], job)
        self.assert_bytes(self.call("job_artifacts", job), archive)
        self.assert_answers("job_archive", stored=1, hit=1)
        self.assert_one_transfer()

    def test_a_deleted_archive_is_gone_at_once(self):
        job = next(self.jobs)["id"]
        for _ in range(2):
            self.assertEqual(len(self.call("job_artifacts", job)), self.size)
        self.assertNotIn("status", self.call("job_artifacts_delete", job))
        self.assertEqual(self.call("job_artifacts", job), {"status": 404})
        self.assertEqual(self.call("download_job_artifact_file", job, FILE), {"status": 404})
        self.assert_answers("job_archive", stored=1, hit=1, refused=1)
