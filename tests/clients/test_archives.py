"""Archives by everyone who writes them: each file that larder takes out of one is what Python's zipfile finds there."""

import urllib.parse

import curl
import writers
from between import HIT, Between


class Archives(Between):
    @classmethod
    def files(cls):
        root, made = cls.scratch / "tree", cls.scratch / "made"
        root.mkdir()
        made.mkdir()
        writers.tree(root)
        for name, write in writers.WRITERS.items():
            write(root, made / f"{name}.zip")
        return sorted(made.iterdir())

    def get(self, path, *arguments):
        answer = curl.get(self.larder.url + path, "--header", f"PRIVATE-TOKEN: {self.personal}", *arguments)
        self.larder.settle()
        return answer

    def assert_files(self, job):
        """Every file from the store, and the archive as well."""
        archive, files = self.members_of(job)
        self.assert_bytes(self.get(job["path"]).body, archive)
        for name, content in files.items():
            path = f"{job['path']}/{urllib.parse.quote(name)}"
            for arguments in ([], ["--compressed"]):
                with self.subTest(file=name, arguments=arguments):
                    answer = self.get(path, *arguments)
                    self.assertEqual(answer.status, 200, answer.body[:200])
                    self.assertEqual(answer.fields["cache-status"], HIT)
                    self.assert_bytes(answer.body, content)
        return files

    def test_files_come_out_of_everyones_archives(self):
        for name in writers.WRITERS:
            with self.subTest(writer=name):
                files = self.assert_files(self.fixture["files"][f"{name}.zip"])
                # As many as the tree has, and what a jar says of itself.
                self.assertGreaterEqual(len(files), 8)

    def test_files_come_out_of_a_runners_archive(self):
        self.assert_files(self.fixture["site"])

    def test_a_runners_upload_through_larder_is_there_for_others(self):
        job = self.fixture["running_job"]
        sent = self.scratch / "made" / "info-zip.zip"
        url = f"{self.larder.url}/api/v4/jobs/{job}/artifacts?artifact_type=archive&artifact_format=zip"
        token = ["--header", f"JOB-TOKEN: {self.job_token}"]
        uploaded = curl.get(url, *token, "--form", f"file=@{sent};filename=artifacts.zip")
        self.assertEqual(uploaded.status, 201, uploaded.body[:200])
        path = f"/api/v4/projects/{self.fixture['project']['id']}/jobs/{job}/artifacts"
        self.assert_bytes(self.of_gitlab(path), sent.read_bytes())
        self.assert_files({"path": path})
