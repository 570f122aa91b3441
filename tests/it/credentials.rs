//! Whoever asks through larder gets what GitLab gives him when he asks it directly.

mod crossing;
mod ending;
mod forms;
mod identity;
mod outage;

use std::time::Duration;

use gitlab_standin::{Archive, ArtifactsAccess, Etag, GitLab, JobId, RunnerAuth, Setup, Storage};
use http::{Method, StatusCode};

use crate::support::{Larder, Reply, get, send, through};
use forms::{Credential, People};

const HOUR: Duration = Duration::from_secs(3600);

/// Mostly open, so that there is enough to take away.
const ACCESS: [ArtifactsAccess; 5] = [
    ArtifactsAccess::All,
    ArtifactsAccess::All,
    ArtifactsAccess::Developer,
    ArtifactsAccess::Maintainer,
    ArtifactsAccess::None,
];

/// The same numbers in every run (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Project,
    Runner,
    RunnerDirect,
}

const WAYS: [Way; 3] = [Way::Project, Way::Runner, Way::RunnerDirect];

/// One request, to be sent both ways.
struct Ask {
    credential: Credential,
    way: Way,
    method: Method,
    job: JobId,
}

/// A GitLab full of people and jobs, and a larder before it.
struct Town {
    gitlab: GitLab,
    larder: Larder,
    people: People,
    dice: Dice,
}

impl Town {
    async fn build(storage: Storage, auth: RunnerAuth, ttl: Duration, seed: u64) -> Self {
        let setup = Setup::default().storage(storage).runner_auth(auth).seed(seed);
        let gitlab = GitLab::start(setup).await.unwrap();
        let larder = Larder::with(&gitlab, |config| config.access.ttl = ttl).await;
        let people = People::settle(&gitlab);
        Self { gitlab, larder, people, dice: Dice(seed) }
    }

    /// A job of any access in any project, with an archive that no other has.
    fn any_job(&mut self) -> JobId {
        let project = [self.people.project, self.people.project, self.people.public][self.dice.below(3)];
        let job = forms::finished(&self.gitlab, project);
        self.gitlab.put_archive(job, Archive::seeded(5_000, job.0).unwrap());
        self.gitlab.set_access(job, ACCESS[self.dice.below(ACCESS.len())]);
        job
    }

    /// Everyone asks on every route, in any order, each for an archive that nobody has asked for.
    fn everyone_alone(&mut self, credentials: &[Credential]) -> Vec<Ask> {
        let mut asks = Vec::new();
        for credential in credentials {
            for way in WAYS {
                let job = self.any_job();
                asks.push(Ask { credential: credential.clone(), way, method: Method::GET, job });
            }
        }
        self.dice.shuffle(&mut asks);
        asks
    }

    /// Everyone asks on every route, in any order, for archives that others ask for as well.
    fn everyone(&mut self, credentials: &[Credential], jobs: &[JobId]) -> Vec<Ask> {
        let mut asks = Vec::new();
        for credential in credentials {
            for way in WAYS {
                let method = [Method::GET, Method::GET, Method::HEAD][self.dice.below(3)].clone();
                let job = jobs[self.dice.below(jobs.len())];
                asks.push(Ask { credential: credential.clone(), way, method, job });
            }
        }
        self.dice.shuffle(&mut asks);
        asks
    }

    /// Puts every archive into the store.
    async fn warm(&self, jobs: &[JobId]) {
        self.gitlab.set_runner_auth(RunnerAuth::JobToken);
        let (_, token) = self.gitlab.running_job(self.people.project, self.people.developer);
        for job in jobs {
            let url = through(&self.gitlab, &self.larder, &self.gitlab.runner_url(*job));
            assert_eq!(get(&url, &[("job-token", &token)]).await.cache(), "larder; fwd=miss; stored");
        }
    }

    async fn all_agree(&self, phase: &str, asks: &[Ask]) -> usize {
        let mut yes = 0;
        for ask in asks {
            yes += usize::from(self.agree(phase, ask).await);
        }
        yes
    }

    /// Sends a request to GitLab and to larder and compares the answers; whether they are a yes.
    async fn agree(&self, phase: &str, ask: &Ask) -> bool {
        let (base, more) = match ask.way {
            Way::Project => (self.gitlab.archive_url(ask.job), ""),
            Way::Runner => (self.gitlab.runner_url(ask.job), ""),
            Way::RunnerDirect => (self.gitlab.runner_url(ask.job), "direct_download=true"),
        };
        let url = ask.credential.url(&base, more);
        let fields = ask.credential.fields();
        let direct = send(ask.method.clone(), &url, &fields).await;
        let ours = send(ask.method.clone(), &through(&self.gitlab, &self.larder, &url), &fields).await;
        let context = format!(
            "{phase}: {} {:?} {} for job {}: GitLab said {}, larder {} ({})",
            ask.method,
            ask.way,
            ask.credential.name,
            ask.job,
            direct.status,
            ours.status,
            ours.cache()
        );
        assert!(ours.whole, "{context}");
        if direct.status == 200 || matches!(direct.status.as_u16(), 302 | 303) {
            self.is_the_archive(ask, &ours, &context);
            return true;
        }
        assert_eq!(ours.status, direct.status, "{context}");
        assert_eq!(ours.body, direct.body, "{context}");
        for name in ["content-type", "www-authenticate", "content-length", "etag"] {
            assert_eq!(ours.field(name), direct.field(name), "{context}: {name}");
        }
        false
    }

    fn is_the_archive(&self, ask: &Ask, ours: &Reply, context: &str) {
        let archive = self.gitlab.archive_of(ask.job).expect("an archive");
        assert_eq!(ours.status, StatusCode::OK, "{context}");
        assert_eq!(ours.field("content-length"), Some(archive.len().to_string().as_str()), "{context}");
        if ask.method == Method::GET {
            assert!(ours.body == archive.bytes().unwrap(), "{context}: other bytes");
        }
    }

    /// Takes rights away: tokens and sessions are revoked, jobs end, a member leaves, archives close or go.
    fn take_away(&mut self, credentials: &[Credential], jobs: &[JobId]) {
        for credential in credentials {
            for (_, value) in credential.fields.iter().chain(&credential.query) {
                if self.dice.below(2) == 0 {
                    let bare = value.rsplit(' ').next().unwrap_or_default();
                    let session =
                        value.split("_gitlab_session=").nth(1).and_then(|rest| rest.split(';').next());
                    self.gitlab.revoke(session.unwrap_or(bare));
                }
            }
        }
        self.gitlab.set_access(jobs[0], ArtifactsAccess::None);
        self.gitlab.delete_archive(jobs[1]);
        self.gitlab.set_public_builds(self.people.public, false);
    }
}

/// The whole of it: cold, hot, after revocation.
async fn everyone_agrees(storage: Storage, auth: RunnerAuth, ttl: Duration, seed: u64) {
    let mut town = Town::build(storage, auth, ttl, seed).await;
    let credentials = town.people.credentials(&town.gitlab);

    let alone = town.everyone_alone(&credentials);
    let cold = town.all_agree("cold", &alone).await;
    assert!(cold > credentials.len() / 4 && cold < alone.len() * 3 / 4, "both happen: {cold}");

    let jobs: Vec<JobId> = (0..12).map(|_| town.any_job()).collect();
    town.warm(&jobs).await;
    town.larder.stored(cold + jobs.len()).await;
    town.gitlab.set_runner_auth(auth);
    let fetched = town.larder.metric("larder_fetched_bytes_total");
    let asks = town.everyone(&credentials, &jobs);
    let hot = town.all_agree("hot", &asks).await;
    assert!(hot > credentials.len() / 2 && hot < asks.len() * 3 / 4, "both happen: {hot}");
    let again = town.larder.metric("larder_fetched_bytes_total") - fetched;
    assert!(again.abs() < 0.5, "{again} bytes were fetched again");

    town.take_away(&credentials, &jobs);
    town.larder.clock.advance(ttl);
    let after = town.all_agree("after revocation", &asks).await;
    assert!(after > 0 && after < hot, "fewer, and some: {after} of {hot}");
    assert_eq!(town.gitlab.counters().stray_credentials, 0);
}

#[tokio::test]
async fn every_credential_gets_what_gitlab_gives_when_each_request_is_asked() {
    everyone_agrees(Storage::Local { etag: Etag::Weak }, RunnerAuth::ProducerToken, Duration::ZERO, 11).await;
}

#[tokio::test]
async fn every_credential_gets_what_gitlab_gives_when_yes_is_remembered() {
    everyone_agrees(Storage::Local { etag: Etag::Sha256 }, RunnerAuth::JobToken, HOUR, 12).await;
}

#[tokio::test]
async fn every_credential_gets_what_gitlab_gives_from_an_object_store() {
    let (newer, older) =
        (Storage::Redirect { job_id_in_path: false }, Storage::Redirect { job_id_in_path: true });
    everyone_agrees(newer, RunnerAuth::JobToken, Duration::ZERO, 13).await;
    everyone_agrees(older, RunnerAuth::AnyUser, HOUR, 14).await;
}

#[tokio::test]
async fn every_credential_gets_what_gitlab_gives_from_a_store_behind_it() {
    let proxied = |etag| Storage::Proxied { etag };
    everyone_agrees(proxied(Etag::Weak), RunnerAuth::AnyUser, Duration::ZERO, 15).await;
    everyone_agrees(proxied(Etag::Sha256), RunnerAuth::JobToken, HOUR, 16).await;
}
