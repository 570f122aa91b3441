"""A runner's whole life with its jobs, by GitlabPyRunner: asks for work, reports, uploads, downloads what it needs."""

import shutil
import zipfile
from pathlib import Path
from tempfile import mkdtemp

import requests
from between import HIT, Between
from GitlabPyRunner.runner import Runner
from GitlabPyRunner.trace import TraceProxy


class AsARunner:
    """The tests, for one storage mode."""

    def runner(self, token=None):
        runner = Runner(self.larder.url, token or self.fixture["runner_token"])
        # Straight to loopback, whatever proxy the environment names.
        runner.trust_env = False
        self.addCleanup(runner.close)
        return runner

    def work(self, runner, name):
        """Takes a job, works in a directory as the runner's own executor does, and finishes it."""
        job = runner.poll()
        self.assertEqual(job["job_info"]["name"], name)
        directory = Path(mkdtemp(dir=self.scratch))
        self.addCleanup(shutil.rmtree, directory)
        trace = TraceProxy(runner, job)
        trace.write(f"Running {name}\n", flush=True)
        runner.get_dependencies(trace, job, directory)
        found = {path.name: path.read_bytes() for path in directory.iterdir()}
        with zipfile.ZipFile(directory / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, f"made by {name}\n" * 100_000)
        runner.upload(trace, job, directory / "archive.zip")
        # In several pieces, each where the last ended.
        for line in range(20):
            trace.write(f"{line}\n" * 200)
        trace.flush()
        self.assertGreater(trace.offset, 10_000)
        runner.success(job)
        self.larder.settle()
        return job, found

    def test_jobs_from_the_request_to_the_end(self):
        runner = self.runner()
        compiled, found = self.work(runner, "compile")
        self.assertEqual(found, {})
        made = {"compile": b"made by compile\n" * 100_000}
        tested, found = self.work(runner, "test")
        self.assertEqual([need["id"] for need in tested["dependencies"]], [compiled["id"]])
        self.assertTrue(found == made)
        # The next one asks with another token, and gets it without a byte from GitLab's store.
        sent = self.gitlab.archive_bytes()
        deployed, found = self.work(runner, "deploy")
        self.assertTrue(found == made)
        self.assertLess(self.gitlab.archive_bytes() - sent, 4096)
        self.assertIsNone(runner.poll(), "no work is left")
        self.assert_answers("runner_archive", stored=1, hit=1)

        # A job's end is its token's end.
        url = f"{self.larder.url}/api/v4/jobs/{compiled['id']}/artifacts"
        refused = runner.get(url, headers={"JOB-TOKEN": deployed["token"]})
        self.assertNotEqual(refused.status_code, 200)
        with self.assertRaises(requests.HTTPError) as ended:
            runner.trace(TraceProxy(runner, deployed), b"late", 0)
        self.assertEqual(ended.exception.response.status_code, 403)
        mine = runner.get(f"{self.larder.url}/api/v4/projects/1/jobs/{compiled['id']}/artifacts", headers={"PRIVATE-TOKEN": self.personal})
        self.assertEqual(mine.headers["Cache-Status"], HIT)

    def test_a_stranger_gets_no_work(self):
        with self.assertRaises(requests.HTTPError) as refused:
            self.runner("glrt-wrong").poll()
        self.assertEqual(refused.exception.response.status_code, 403)


class OnDisk(AsARunner, Between):
    """Newest GitLab, with its own disk."""


class InAnObjectStore(AsARunner, Between):
    """Bytes that come from an object store through GitLab, since this runner doesn't ask to be sent there."""

    storage = "redirect"
