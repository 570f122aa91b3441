"""A browser at GitLab's pages, through larder: signs in, downloads, opens files."""


from between import Between
from browser import Browser


class AtGitLabsPages:
    """The tests, for one storage mode."""

    def setUp(self):
        super().setUp()
        downloads = self.scratch / self.id()
        downloads.mkdir()
        self.browser = Browser(downloads)
        self.addCleanup(self.browser.close)
        self.site = self.fixture["site"]
        self.page = f"{self.larder.url}/{self.fixture['project']['path']}/-/jobs/{self.site['id']}"

    def sign_in(self):
        """On the way to the job's page."""
        self.browser.open(self.page)
        self.assertEqual(self.browser.url(), f"{self.larder.url}/users/sign_in")
        self.browser.write("input[name='user[login]']", self.fixture["username"])
        self.browser.write("input[name='user[password]']", self.fixture["password"])
        self.browser.submit()
        self.assertEqual(self.browser.url(), self.page)
        self.assertIn(f"Job #{self.site['id']}", self.browser.title())

    def download(self):
        self.browser.click_link("Download")
        content = self.browser.downloaded("artifacts.zip")
        self.larder.settle()
        return content

    def test_a_person_signs_in_downloads_and_opens_files(self):
        archive, files = self.members_of(self.site)
        self.sign_in()
        self.assert_bytes(self.download(), archive)
        for name in ("public/index.html", "log.txt", "program"):
            with self.subTest(file=name):
                self.browser.open(f"{self.page}/artifacts/browse/{name.rpartition('/')[0]}")
                self.browser.click(f"a[href$='/artifacts/raw/{name}']")
                self.assert_bytes(self.browser.downloaded(name.rpartition("/")[2]), files[name])
        self.assert_answers("web_entry", hit=3)
        self.browser.open(self.page)
        self.browser.submit()
        self.assertEqual(self.browser.url(), self.page, "the keep button leads back")
        self.assert_bytes(self.download(), archive)

    def test_each_download_is_asked_for_anew_and_the_second_is_a_hit(self):
        self.sign_in()
        # Whichever test comes first finds it cold.
        self.download()
        before = self.larder.answers()
        for _ in range(2):
            self.download()
        self.assertEqual((self.larder.answers() - before)["web_archive", "hit"], 2)

    def test_a_wrong_password_and_a_stranger_get_nothing(self):
        self.browser.open(self.page)
        self.browser.write("input[name='user[login]']", self.fixture["username"])
        self.browser.write("input[name='user[password]']", "wrong")
        self.browser.submit()
        self.assertEqual(self.browser.url(), f"{self.larder.url}/users/sign_in")
        self.browser.open(f"{self.page}/artifacts/download")
        self.assertEqual(self.browser.url(), f"{self.larder.url}/users/sign_in")
        self.assertEqual(list(self.browser.downloads.iterdir()), [])


class OnDisk(AtGitLabsPages, Between):
    """Newest GitLab, with its own disk."""


class InAnObjectStore(AtGitLabsPages, Between):
    """GitLab that sends browsers to an object store."""

    storage = "redirect"
