"""A browser at a GitLab that knows itself by one name alone, through a larder that has another: redirects name GitLab's
own URL, the session's cookie is for its domain, and for https."""

import ssl
import tempfile
import unittest
from pathlib import Path

import certificate
from browser import Browser
from programs import Larder, StandIn

SIGNED_OUT = "Sign in"
COOKIE = "_gitlab_session"


class ByAnotherName(unittest.TestCase):
    """In plain."""

    scheme = "http"

    def setUp(self):
        self.scratch = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="larder-clients-")))
        der = self.scratch / "gitlab.der"
        self.gitlab = StandIn("local-sha256", 1, 1 << 16, (), f"--secure={der}")
        self.addCleanup(self.gitlab.stop)
        authority = self.scratch / "gitlab.pem"
        authority.write_text(ssl.DER_cert_to_PEM_cert(der.read_bytes()))
        self.own = self.gitlab.fixture["tls_url"]
        larder = Larder(self.own, self.scratch / "cache", {"upstream.ca_file": str(authority)} | self.front())
        self.addCleanup(larder.stop)
        self.larder = larder
        self.origin = larder.url.replace("http:", f"{self.scheme}:")
        downloads = self.scratch / "downloads"
        downloads.mkdir()
        self.browser = Browser(downloads, "--ignore-certificate-errors")
        self.addCleanup(self.browser.close)
        job = self.gitlab.fixture["site"]["id"]
        self.page = f"{self.origin}/{self.gitlab.fixture['project']['path']}/-/jobs/{job}"

    def front(self):
        """How clients reach larder."""
        return {}

    def download(self):
        self.browser.click_link("Download")
        content = self.browser.downloaded("artifacts.zip")
        self.larder.settle()
        return content

    def test_a_person_signs_in_downloads_and_signs_out(self):
        self.browser.open(self.page)
        self.assertEqual(self.browser.url(), f"{self.origin}/users/sign_in", f"and not at {self.own}")
        before = self.browser.cookies()[COOKIE]
        self.assertEqual((before["domain"], before["secure"]), ("127.0.0.1", self.scheme == "https"))
        self.browser.write("input[name='user[login]']", self.gitlab.fixture["username"])
        self.browser.write("input[name='user[password]']", self.gitlab.fixture["password"])
        self.browser.submit()
        self.assertEqual(self.browser.url(), self.page, "back where it was asked for")
        session = self.browser.cookies()[COOKIE]
        self.assertNotEqual(session["value"], before["value"])
        self.assertTrue(session["httpOnly"])

        size = self.gitlab.fixture["site"]["size"]
        first = self.download()
        self.assertEqual(len(first), size)
        self.assertTrue(self.download() == first)
        self.assertEqual(self.larder.answers()["web_archive", "hit"], 1)

        self.browser.click("form[action='/users/sign_out'] button")
        self.browser.expect_title(SIGNED_OUT)
        self.assertEqual(self.browser.url(), f"{self.origin}/users/sign_in")
        for path in ("", "/artifacts/download"):
            self.browser.open(self.page + path)
            self.assertEqual(self.browser.url(), f"{self.origin}/users/sign_in")
        self.assertEqual(list(self.browser.downloads.iterdir()), [])


class ByAnotherNameSecurely(ByAnotherName):
    """By TLS, with a certificate of larder's own."""

    scheme = "https"

    def front(self):
        cert, key = certificate.make(self.scratch)
        return {"server.tls.cert": str(cert), "server.tls.key": str(key)}
