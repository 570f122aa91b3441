"""python-gitlab: single files, archives and files by ref, and what it changes."""

import io

import gitlab
import python_gitlab
from between import HIT, MISS, Between


class Files:
    """The tests, for one storage mode."""

    job_count = 4

    def setUp(self):
        super().setUp()
        self.statuses = []
        client = python_gitlab.client(self.larder.url, self.statuses, private_token=self.personal)
        self.project = client.projects.get(self.fixture["project"]["path"], lazy=True)

    def of(self, job):
        return self.project.jobs.get(job["id"], lazy=True)

    def test_a_jobs_files_come_out_of_its_archive(self):
        site = self.fixture["site"]
        archive, files = self.members_of(site)
        job = self.of(site)
        self.assert_bytes(job.artifacts(), archive)
        self.larder.settle()
        for name, content in files.items():
            with self.subTest(file=name):
                # The client puts the path into the URL as it is.
                path = name.replace("&", "%26")
                self.assert_bytes(job.artifact(path), content)
                streamed = io.BytesIO()
                job.artifact(path, streamed=True, action=streamed.write)
                self.assert_bytes(streamed.getvalue(), content)
        self.assertEqual(self.statuses[1:], [HIT] * 2 * len(files))
        self.assert_answers("job_entry", hit=2 * len(files))

    def test_an_archive_and_its_files_by_ref(self):
        archive, files = self.members_of(self.fixture["site"])
        artifacts = self.project.artifacts
        self.assert_bytes(artifacts.download(ref_name="release/1.0", job="site"), archive)
        self.larder.settle()
        self.assert_bytes(artifacts.download(ref_name="release/1.0", job="site"), archive)
        for name, content in files.items():
            with self.subTest(file=name):
                self.assert_bytes(artifacts.raw("release/1.0", name.replace("&", "%26"), job="site"), content)
        self.assertEqual(self.statuses[1:], [HIT] * (1 + len(files)))
        self.assert_answers("ref_entry", hit=len(files))

    def test_what_is_not_there_is_gitlabs_404(self):
        job = self.of(self.fixture["site"])
        for attempt in (
            lambda: job.artifact("no/such/file"),
            lambda: self.project.artifacts.raw("release/1.0", "no/such/file", job="site"),
            lambda: self.project.artifacts.raw("no-such-ref", "report.json", job="site"),
            lambda: self.project.artifacts.download("release/1.0", job="no-such-job"),
        ):
            with self.assertRaises(gitlab.GitlabError) as refused:
                attempt()
            self.assertEqual(refused.exception.response_code, 404)

    def test_a_file_of_an_archive_that_is_not_held_brings_it(self):
        job = self.of(next(self.jobs))
        first = job.artifact("data.bin")
        self.larder.settle()
        self.assert_bytes(job.artifact("data.bin"), first)
        self.assertEqual(len(job.artifacts()), self.size)
        self.assertEqual(self.statuses, ["larder; fwd=miss", HIT, HIT])
        self.assert_one_transfer()

    def test_a_kept_archive_is_still_a_hit(self):
        job = self.of(next(self.jobs))
        archive = job.artifacts()
        self.larder.settle()
        job.keep_artifacts()
        self.assert_bytes(job.artifacts(), archive)
        self.assertEqual([self.statuses[0], self.statuses[-1]], [MISS, HIT])
        self.assert_one_transfer()

    def test_a_deleted_archive_is_gone_at_once(self):
        job = self.of(next(self.jobs))
        job.artifacts()
        self.larder.settle()
        self.assertTrue(job.artifact("data.bin"))
        self.assertEqual(self.statuses, [MISS, HIT])
        job.delete_artifacts()
        for attempt in (job.artifacts, lambda: job.artifact("data.bin")):
            with self.assertRaises(gitlab.GitlabError) as refused:
                attempt()
            self.assertEqual(refused.exception.response_code, 404)


class OnDisk(Files, Between):
    """Newest GitLab, with its own disk."""


class InAnObjectStore(Files, Between):
    """GitLab that sends clients to an object store."""

    storage = "redirect"
