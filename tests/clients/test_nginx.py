"""nginx before larder, and between larder and GitLab, as installations have it."""

import json
import os
import re
import subprocess

import curl
from between import HIT, MISS, OF_ONE_ANSWER, Between
from nginx import Nginx
from programs import ENVIRONMENT, PATIENCE

# Several slices of larder's, nginx's buffers many times, and an odd end.
SIZE = (12 << 20) + 17

OF_ONE_CONNECTION = OF_ONE_ANSWER | {"connection", "keep-alive"}

KIND = {"content-type", "content-disposition"}
WHAT_IT_IS = KIND | {"content-length", "content-range", "etag"}

FORWARDED = """
    proxy_set_header Host $http_host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    client_max_body_size 0;
"""

# Connections are kept, bodies stream.
STREAMING = FORWARDED + """
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    proxy_request_buffering off;
"""

# As nginx does by itself: HTTP/1.0, a connection a request, bodies into files; and text compressed.
PLAIN = FORWARDED + """
    gzip on;
    gzip_proxied any;
    gzip_types text/plain application/json;
"""

# The server between larder and GitLab: as GitLab's own, but for a limit on bodies, and its impatience.
BETWEEN = """
    gzip on;
    gzip_types text/plain application/json;
    client_max_body_size 1m;
    keepalive_timeout 1ms;
    keepalive_requests 7;
    proxy_http_version 1.1;
    location / {{ proxy_set_header Host $http_host; proxy_pass {url}; }}
    location /sink {{ client_max_body_size 0; proxy_request_buffering off; proxy_pass {url}; }}
    location ~ (/down|/jobs/777/) {{ proxy_pass http://unix:{directory}/nobody.sock; }}
"""


class Nginxes(Between):
    job_count = 6
    size = SIZE
    maxDiff = None

    def ask(self, base, path, *arguments):
        """What counts of an answer: all but what belongs to one answer alone, or names who answers."""
        answer = curl.get(base + path, *arguments)
        fields = {name: value for name, value in answer.fields.items() if name not in OF_ONE_CONNECTION}
        if "set-cookie" in fields:
            fields["set-cookie"] = re.sub(r"_session=[0-9a-f]+", "_session=", fields["set-cookie"])
        return answer.status, {name: value.replace(base, "URL") for name, value in fields.items()}, answer.body

    def assert_same(self, base, path, straight, *arguments):
        status, fields, body = self.ask(base, path, *arguments)
        expected = self.ask(straight, path, *arguments)
        self.assertEqual((status, fields), expected[:2])
        self.assert_bytes(body, expected[2])
        return status, fields, body

    def assert_all_same(self, base, straight):
        """What passes through is the same; of what comes from the store that which says what it is."""
        job = next(self.jobs)
        token = ("--header", f"PRIVATE-TOKEN: {self.personal}")
        project = f"/api/v4/projects/{self.fixture['project']['id']}"
        for path, *arguments in (
            (f"{project}/jobs/{job['id']}", *token),
            ("/bytes/0",),
            ("/bytes/300000",),
            ("/nothing/like/it",),
            ("/sink", "--data-binary", "a body"),
            (job["path"], "--header", "PRIVATE-TOKEN: wrong"),
            (job["path"],),
            (f"{self.fixture['site']['path']}/nowhere.txt", *token),
        ):
            with self.subTest(base=base, path=path, arguments=arguments):
                self.assert_same(base, path, straight, *arguments)
        # Cold, and not.
        for _ in range(2):
            for path, *arguments in (
                (f"/{self.fixture['project']['path']}/-/jobs/{job['id']}/artifacts/download",),
                (job["path"], *token),
                (job["path"], *token, "--head"),
                (job["path"], *token, "--range", "0-0"),
                (job["path"], *token, "--range", "1048570-3145738"),
                (job["path"], *token, "--range", "-1000"),
                (job["path"], *token, "--range", "99999999-"),
                (job["path"], *token, "--header", f'If-None-Match: "{job["sha256"]}"'),
                (f"{self.fixture['site']['path']}/log.txt", *token),
                (f"{self.fixture['site']['path']}/log.txt", *token, "--compressed"),
            ):
                with self.subTest(base=base, path=path, arguments=arguments):
                    self.assert_alike(self.ask(base, path, *arguments), self.ask(straight, path, *arguments))
                self.larder.settle()

    def assert_alike(self, got, expected):
        (status, fields, body), (_, known, whole) = got, expected
        self.assertEqual(status, expected[0])
        if status in (200, 206):
            # Of what each has compressed itself, length and ETag are its own.
            said = known.keys() & (WHAT_IT_IS if "content-encoding" not in fields else KIND)
            self.assertEqual({name: fields.get(name) for name in said}, {name: known[name] for name in said})
            if not body.startswith(b"HTTP/"):
                self.assert_bytes(body, whole)


class InFront(Nginxes):
    """Clients - nginx - larder - GitLab, compared with the same without larder."""

    @classmethod
    def settings(cls):
        return {"server.trusted_proxies": "127.0.0.1/32", "access.ttl": "0s"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        pools = [
            f"upstream {name} {{ server {url.removeprefix('http://')}; keepalive 8; }}\n"
            for name, url in (("larder", cls.larder.url), ("gitlab", cls.gitlab.url))
        ]
        servers = [
            f"{how}\nlocation / {{ proxy_pass http://{name}; }}"
            for how in (STREAMING, PLAIN)
            for name in ("larder", "gitlab")
        ]
        cls.nginx = Nginx(cls.scratch, servers, "".join(pools))
        cls.started.callback(cls.nginx.stop)
        through_streaming, streaming, through_plain, plain = cls.nginx.urls
        cls.ways = ((through_streaming, streaming), (through_plain, plain))

    def test_answers_are_the_same_as_without_larder(self):
        for base, straight in self.ways:
            self.assert_all_same(base, straight)

    def test_an_archive_is_stored_once_and_served(self):
        for base, _ in self.ways:
            job = next(self.jobs)
            self.before, self.requests_before = self.gitlab.archive_bytes(), self.requests()
            archive = None
            for expected in (MISS, HIT, HIT):
                answer = curl.get(base + job["path"], "--header", f"PRIVATE-TOKEN: {self.personal}")
                self.assertEqual((answer.status, answer.fields["cache-status"]), (200, expected))
                archive = archive or answer.body
                self.assert_bytes(answer.body, archive)
                self.larder.settle()
            self.assert_one_transfer()
            self.assert_bytes(archive, self.of_gitlab(job["path"]))

    def test_gitlab_hears_of_the_client_and_of_the_name_it_asked(self):
        for base, _ in self.ways:
            chain = ("--interface", "127.0.0.5", "--header", "X-Forwarded-For: 192.0.2.1")
            told = json.loads(curl.get(f"{base}/echo", *chain).body)
            fields = {name.lower(): value for name, value in told["headers"]}
            self.assertEqual(fields["host"], self.gitlab.url.removeprefix("http://"))
            self.assertEqual(fields["x-forwarded-host"], base.removeprefix("http://"))
            self.assertEqual(fields["x-forwarded-proto"], "http")
            # What the client says, where nginx saw it, where larder saw nginx.
            self.assertEqual(fields["x-forwarded-for"], "192.0.2.1, 127.0.0.5, 127.0.0.1")
            self.assertEqual(fields["x-real-ip"], "127.0.0.5")

    def test_uploads_of_any_framing_arrive(self):
        file = self.scratch / "upload"
        file.write_bytes(os.urandom(SIZE))
        for base, straight in self.ways:
            for framing in ((), ("--header", "Transfer-Encoding: chunked"), ("--header", "Expect:")):
                with self.subTest(base=base, framing=framing):
                    sent = ("--data-binary", f"@{file}", *framing)
                    status, _, body = self.assert_same(base, "/sink", straight, *sent)
                    self.assertIn(f'"length":{SIZE}'.encode(), body.replace(b" ", b""))


class InBetween(Nginxes):
    """Clients - larder - nginx - GitLab, compared with nginx - GitLab."""

    @classmethod
    def upstream(cls, starting):
        block = BETWEEN.format(url=cls.gitlab.url, directory=cls.scratch)
        cls.nginx = Nginx(cls.scratch, [block])
        starting.callback(cls.nginx.stop)
        return cls.nginx.urls[0]

    def same(self, path, *arguments):
        return self.assert_same(self.larder.url, path, self.nginx.urls[0], *arguments)

    def test_answers_are_the_same_as_without_larder(self):
        self.assert_all_same(self.larder.url, self.nginx.urls[0])

    def test_its_own_refusals_are_relayed_word_for_word(self):
        token = ("--header", f"PRIVATE-TOKEN: {self.personal}")
        file = self.scratch / "too much"
        file.write_bytes(bytes(8 << 20))
        too_much = ("--data-binary", f"@{file}")
        project = f"/api/v4/projects/{self.fixture['project']['id']}"
        for expected, path, *arguments in (
            (502, "/down"),
            (502, f"{project}/jobs/777/artifacts", *token),
            (502, f"{project}/jobs/777/artifacts/file.txt", *token),
            (413, "/echo", *too_much),
            (413, "/echo", *too_much, "--header", "Expect:"),
            (413, "/echo", *too_much, "--header", "Transfer-Encoding: chunked", "--header", "Expect:"),
        ):
            with self.subTest(path=path, arguments=arguments):
                status, _, body = self.same(path, *arguments)
                self.assertEqual(status, expected)
                self.assertIn(b"nginx", body)

    def test_uploads_stream_through_both(self):
        file = self.scratch / "upload"
        file.write_bytes(os.urandom(SIZE))
        for framing in ((), ("--header", "Transfer-Encoding: chunked"), ("--header", "Expect:")):
            with self.subTest(framing=framing):
                status, _, body = self.same("/sink", "--data-binary", f"@{file}", *framing)
                self.assertIn(f'"length":{SIZE}'.encode(), body.replace(b" ", b""))

    def test_kept_connections_that_it_closes_cost_nobody_an_answer(self):
        ran = subprocess.run(
            ("h2load", "-n", "4000", "-c", "10", "-m", "5", f"{self.larder.url}/bytes/300"),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertIn("status codes: 4000 2xx, 0 3xx, 0 4xx, 0 5xx", ran.stdout)
