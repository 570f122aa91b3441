"""Archives by job, downloaded by real clients through larder, in every way that GitLab stores and sends them."""

import hashlib
import io
import subprocess
import tempfile
import unittest
from pathlib import Path

import curl
import gitlab
import python_gitlab
from between import HIT, MISS, OF_ONE_ANSWER, Between
from programs import ENVIRONMENT, PATIENCE

# Several slices of larder's and an odd end.
SIZE = (3 << 20) + 17


class Downloads:
    """The tests, for one storage mode. Each takes a job of its own, so that each begins cold."""

    job_count = 12
    size = SIZE

    def setUp(self):
        super().setUp()
        self.job = next(self.jobs)
        self.path = self.job["path"]
        self.runner_path = f"/api/v4/jobs/{self.job['id']}/artifacts"

    def assert_archive(self, body):
        self.assertEqual(len(body), self.job["size"])
        self.assertEqual(hashlib.sha256(body).hexdigest(), self.job["sha256"])

    def download(self, path, *arguments):
        answer = curl.get(self.larder.url + path, *arguments)
        self.assertEqual(answer.status, 200, answer.body[:200])
        self.assert_archive(answer.body)
        self.assertEqual(answer.fields["content-length"], str(SIZE))
        self.larder.settle()
        return answer.fields["cache-status"]

    def test_python_gitlab_downloads_a_jobs_archive_cold_and_hot(self):
        statuses = []
        project = self.fixture["project"]
        for credential, name in (
            ({"private_token": self.personal}, project["id"]),
            ({"private_token": self.personal}, project["path"]),
            ({"oauth_token": self.personal}, project["id"]),
            ({"job_token": self.job_token}, project["path"]),
        ):
            client = python_gitlab.client(self.larder.url, statuses, **credential)
            job = client.projects.get(name, lazy=True).jobs.get(self.job["id"], lazy=True)
            streamed = io.BytesIO()
            job.artifacts(streamed=True, action=streamed.write)
            self.assert_archive(streamed.getvalue())
            self.larder.settle()
            self.assert_archive(job.artifacts())
        self.assertEqual(statuses, [MISS] + [HIT] * 7)
        self.assert_one_transfer()

    def test_python_gitlab_sees_gitlabs_refusal(self):
        statuses = []
        self.assertEqual(self.download(self.path, "--header", f"PRIVATE-TOKEN: {self.personal}"), MISS)
        client = python_gitlab.client(self.larder.url, statuses, private_token="glpat-wrong")
        job = client.projects.get(1, lazy=True).jobs.get(self.job["id"], lazy=True)
        with self.assertRaises(gitlab.GitlabAuthenticationError) as refused:
            job.artifacts()
        self.assertEqual(refused.exception.response_code, 401)
        self.assertEqual(statuses, ["larder; fwd=bypass; detail=refused"])

    def test_curl_downloads_by_job_with_each_credential(self):
        query = f"{self.path}?private_token={self.personal}"
        ways = [
            (self.path, ["--header", f"PRIVATE-TOKEN: {self.personal}"]),
            (self.path, ["--header", f"Authorization: Bearer {self.personal}"]),
            (self.path, ["--header", f"JOB-TOKEN: {self.job_token}"]),
            (self.path, ["--location", "--header", f"PRIVATE-TOKEN: {self.personal}"]),
            (query, []),
        ]
        statuses = [self.download(path, *arguments) for path, arguments in ways]
        self.assertEqual(statuses, [MISS] + [HIT] * 4)
        self.assert_one_transfer()

    def test_a_runners_download_is_answered_with_the_body_at_once(self):
        token = ["--header", f"JOB-TOKEN: {self.job_token}"]
        queries = ["?direct_download=true", "", "?", "?direct_download=false", "?direct_download=true"]
        statuses = [self.download(self.runner_path + query, *token) for query in queries]
        self.assertEqual(statuses, [MISS] + [HIT] * 4)
        self.assert_one_transfer()

    def test_a_runners_second_attempt_without_direct_download_can_be_the_first_to_come(self):
        token = ["--header", f"JOB-TOKEN: {self.job_token}"]
        statuses = [self.download(self.runner_path, *token) for _ in range(2)]
        self.assertEqual(statuses, [MISS, HIT])
        self.assert_one_transfer()

    def test_one_stored_archive_serves_both_routes(self):
        personal = ["--header", f"PRIVATE-TOKEN: {self.personal}"]
        running = ["--header", f"JOB-TOKEN: {self.job_token}"]
        self.assertEqual(self.download(self.path, *personal), MISS)
        self.assertEqual(self.download(self.runner_path, *running), HIT)
        self.assertEqual(self.download(self.path, *personal), HIT)
        self.assert_one_transfer()

    def test_rclone_and_axel_download_an_archive_whole_and_in_parts(self):
        token = f"PRIVATE-TOKEN: {self.personal}"
        url = self.larder.url + self.path
        with tempfile.TemporaryDirectory() as directory:
            for command in (
                ["rclone", "--config", "", "copyurl", "--header", token, url],
                ["axel", "--quiet", "--num-connections=4", f"--header={token}", url, "--output"],
                ["rclone", "--config", "", "copyurl", "--header", token, url],
            ):
                file = Path(directory) / "archive.zip"
                subprocess.run([*command, file], env=ENVIRONMENT, check=True, timeout=PATIENCE)
                self.assert_archive(file.read_bytes())
                file.unlink()
                self.larder.settle()
        self.assert_one_transfer()

    def test_clients_at_once_on_a_cold_archive_share_one_transfer(self):
        token = ["--header", f"JOB-TOKEN: {self.job_token}"]
        running = [curl.start(self.larder.url + self.path, *token) for _ in range(8)]
        answers = [curl.finish(one) for one in running]
        for answer in answers:
            self.assertEqual(answer.status, 200)
            self.assert_archive(answer.body)
        self.assertEqual([answer.fields["cache-status"] for answer in answers].count(MISS), 1)
        self.assert_one_transfer()

    def test_a_part_and_a_head_are_answered_from_the_store(self):
        token = ["--header", f"PRIVATE-TOKEN: {self.personal}"]
        whole = curl.get(self.larder.url + self.path, *token)
        self.larder.settle()
        part = curl.get(self.larder.url + self.path, "--range", "1048570-1048585", *token)
        self.assertEqual((part.status, part.body), (206, whole.body[1048570:1048586]))
        self.assertEqual(part.fields["content-range"], f"bytes 1048570-1048585/{SIZE}")
        head = curl.get(self.larder.url + self.path, "--head", *token)
        self.assertEqual((head.status, head.fields["content-length"]), (200, str(SIZE)))
        self.assertEqual(head.fields["etag"], whole.fields["etag"])
        unchanged = curl.get(
            self.larder.url + self.path, "--header", f"If-None-Match: {whole.fields['etag']}", *token
        )
        self.assertEqual((unchanged.status, unchanged.body), (304, b""))
        self.assert_one_transfer()
        self.assertEqual(self.gitlab.counters()["proxied_head_bytes"], 0)

    def test_a_refusal_is_gitlabs_own_before_and_after_the_archive_is_held(self):
        wrong = ["--header", "PRIVATE-TOKEN: glpat-wrong"]
        paths = (self.path, self.runner_path, f"{self.runner_path}?direct_download=true")
        looks = {}
        for held in (False, True):
            for path in paths:
                with self.subTest(held=held, path=path):
                    names = self.assert_same_refusal(path, wrong)
                    self.assertEqual(names, looks.setdefault(path, names), "it tells whether the archive is held")
            self.download(self.path, "--header", f"PRIVATE-TOKEN: {self.personal}")

    def assert_same_refusal(self, path, arguments):
        direct = curl.get(self.gitlab.url + path, *arguments)
        through = curl.get(self.larder.url + path, *arguments)
        self.assertEqual(direct.status, 401)
        self.assertEqual((through.status, through.body), (direct.status, direct.body))
        self.assertEqual(through.fields["cache-status"], "larder; fwd=bypass; detail=refused")
        lasting = [
            {name: value for name, value in answer.fields.items() if name not in OF_ONE_ANSWER}
            for answer in (through, direct)
        ]
        self.assertEqual(*lasting)
        return through.names

    def test_other_requests_pass_through(self):
        sent = bytes(range(256)) * 64
        with tempfile.NamedTemporaryFile() as file:
            file.write(sent)
            file.flush()
            arguments = ["--header", "Content-Type: x/y", "--data-binary", f"@{file.name}"]
            answer = curl.get(f"{self.larder.url}/sink", *arguments)
        self.assertEqual(answer.status, 200)
        self.assertIn(hashlib.sha256(sent).hexdigest().encode(), answer.body)
        self.assertEqual(answer.fields["via"], "1.1 larder")

    def test_z_ends_in_order_and_has_kept_no_secret(self):
        """The last by name: it ends larder and looks at what it leaves behind."""
        for token in (self.personal, self.job_token, "glpat-wrong"):
            self.assertNotIn(token, self.larder.metrics())
        code = self.larder.stop()
        self.assertEqual(code, 0, "".join(self.larder.lines[-3:]))
        self.assertIn('"message":"stopped"', self.larder.lines[-1])
        files = [path for path in Path(self.directory).rglob("*") if path.is_file()]
        self.assertTrue(any(path.suffix == ".zip" for path in files))
        for token in (self.personal, self.job_token, "glpat-wrong"):
            self.assertFalse([line for line in self.larder.lines if token in line])
            self.assertFalse([path for path in files if token.encode() in path.read_bytes()])
        self.assertEqual(self.gitlab.counters()["stray_credentials"], 0)


class Local(Downloads, Between):
    """Older GitLab: the archive on its own disk, one constant weak entity tag."""

    storage = "local"


class LocalSha256(Downloads, Between):
    """Newest GitLab: the archive on its own disk, its SHA-256 as entity tag."""

    storage = "local-sha256"


class Redirect(Downloads, Between):
    """Clients are sent to an object store; its paths don't name the job."""

    storage = "redirect"


class RedirectJobId(Downloads, Between):
    """Clients are sent to an object store; its paths name the job."""

    storage = "redirect-job-id"


class Proxied(Downloads, Between):
    """GitLab reads its object store for the client."""

    storage = "proxied"


if __name__ == "__main__":
    unittest.main()
