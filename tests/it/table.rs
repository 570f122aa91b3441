//! Some two hundred requests, each asked of GitLab itself and through larder: cold, hot and while the archive is still
//! arriving, in every storage mode. Nobody can tell the two answers apart.

mod answers;
mod rows;
mod world;

use std::time::Duration;

use gitlab_standin::{Class, Effect, Etag, Fault, Gate, Seen, Setup, Storage};
use http::Method;

use crate::scene::MODES;
use crate::support::{Exchange, Larder, Reply, open};
use answers::{Answer, differences};
use rows::{Route, Row, Who, rows};
use world::{HELD_AT, World};

/// A row in one method, with GitLab's own answer.
struct Case {
    row: Row,
    method: Method,
    url: String,
    direct: Answer,
}

impl Case {
    async fn of(world: &World, row: Row, method: Method) -> Self {
        let url = world.url(&row.target, row.who);
        let direct = ask(world, &method, &url, row.who).await.rest().await;
        let direct = Answer::following(&world.gitlab, &method, direct).await;
        Self { row, method, url, direct }
    }

    /// Sent to larder; the head of its answer.
    async fn open(&self, world: &World, larder: &Larder) -> Exchange {
        let url = self.url.replacen(&world.gitlab.url(), &larder.url(), 1);
        ask(world, &self.method, &url, self.row.who).await
    }

    async fn send(&self, world: &World, larder: &Larder) -> Reply {
        self.open(world, larder).await.rest().await
    }

    /// Whether it has no answer before the archive is there: by ref at an older GitLab, an archive is known by its end.
    fn waits_for_the_end(&self, world: &World) -> bool {
        let unknown = world.storage == Storage::Local { etag: Etag::Weak };
        unknown && self.row.route == Route::RefArchive && self.may_fill()
    }

    /// Whether GitLab hands out an archive or a file. Some redirects to the store are signed for GET alone, so the
    /// store's own answer to a HEAD says nothing.
    fn is_admitted(&self) -> bool {
        self.row.route != Route::Other
            && (self.direct.object.is_some() || self.direct.first.status.is_success())
    }

    /// Whether GitLab says no, be it by its sign-in page.
    fn is_refused(&self) -> bool {
        let status = self.direct.first.status;
        self.direct.object.is_none() && (status.is_client_error() || status.is_redirection())
    }

    /// Whether larder may have an archive afterwards.
    fn may_fill(&self) -> bool {
        self.is_admitted() && self.method == Method::GET
    }
}

async fn ask(world: &World, method: &Method, url: &str, who: Who) -> Exchange {
    let fields = world.fields(who);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    open(method.clone(), url, &fields, "").await.unwrap_or_else(|| panic!("no answer: {method} {url}"))
}

/// One that asks GitLab each time.
async fn larder(world: &World) -> Larder {
    Larder::with(&world.gitlab, |config| config.access.ttl = Duration::ZERO).await
}

/// Answers through one larder, in the order of the cases.
struct Column {
    name: &'static str,
    answers: Vec<(Reply, String)>,
}

impl Column {
    /// Each case asked of a larder that has no archive.
    async fn cold(world: &World, cases: &[Case]) -> Self {
        let mut answers = Vec::new();
        let mut empty = larder(world).await;
        for case in cases {
            answers.push((case.send(world, &empty).await, empty.url()));
            if case.may_fill() {
                empty = larder(world).await;
            }
        }
        Self { name: "cold", answers }
    }

    /// Each case asked while archives are arriving: what was asked for by job, and what by ref.
    async fn growing(world: &World, cases: &[Case]) -> Self {
        let larder = larder(world).await;
        let bodies = hold_fills(world);
        let mut leading = Vec::new();
        for case in leads(cases) {
            leading.push(case.open(world, &larder).await);
        }
        let mut arriving = Vec::new();
        for case in cases {
            let waits = case.waits_for_the_end(world);
            arriving.push(if waits { None } else { Some(case.open(world, &larder).await) });
        }
        bodies.iter().for_each(Gate::open);
        let mut answers = Vec::new();
        for (case, exchange) in cases.iter().zip(arriving) {
            let reply = match exchange {
                Some(exchange) => exchange.rest().await,
                None => case.send(world, &larder).await,
            };
            answers.push((reply, larder.url()));
        }
        world.gitlab.clear_faults();
        Self { name: "growing", answers }
    }

    /// Each case asked of a larder that has the archives, and their files' places.
    async fn hot(world: &World, cases: &[Case]) -> Self {
        let larder = larder(world).await;
        for case in leads(cases) {
            warm(world, &larder, case).await;
        }
        let mut answers = Vec::new();
        for case in cases {
            answers.push((case.send(world, &larder).await, larder.url()));
        }
        Self { name: "hot", answers }
    }
}

/// The cases that bring the archives in: by job and by ref, of each project.
fn leads(cases: &[Case]) -> impl Iterator<Item = &Case> {
    let archive =
        |case: &&Case| matches!(case.row.route, Route::Archive | Route::RefArchive) && case.may_fill();
    cases.iter().filter(archive).filter(|case| matches!(case.row.who, Who::SudoMember | Who::Stranger))
}

/// Holds every whole archive on its way from where its bytes are, once for each project and route.
fn hold_fills(world: &World) -> Vec<Gate> {
    let redirects = matches!(world.storage, Storage::Redirect { .. });
    let classes = if redirects { &[Class::Object][..] } else { &[Class::JobArchive, Class::RefArchive] };
    let turns = classes.iter().flat_map(|class| [(*class, 1), (*class, 2)]);
    let hold = |(class, turn)| {
        let body = Gate::new();
        body.release(u64::try_from(HELD_AT).unwrap());
        let whole = |seen: &Seen| seen.method == "GET" && seen.header("range").is_none();
        world.gitlab.fault(Fault::new(Effect::Slow(body.clone())).on(class).when(whole).nth(turn));
        body
    };
    turns.map(hold).collect()
}

/// Asks until it is a hit.
async fn warm(world: &World, larder: &Larder, case: &Case) {
    let hit = async { while case.send(world, larder).await.cache() != "larder; hit" {} };
    tokio::time::timeout(Duration::from_secs(60), hit).await.expect("it is stored");
}

/// Compares all rows in one storage mode.
async fn compare(setup: Setup, storage: Storage) {
    let world = World::start(setup, storage).await;
    let mut cases = Vec::new();
    for row in rows() {
        // HEAD first: it fills nothing.
        for method in [Method::HEAD, Method::GET] {
            cases.push(Case::of(&world, row.clone(), method).await);
        }
    }
    let cold = Column::cold(&world, &cases).await;
    let growing = Column::growing(&world, &cases).await;
    let hot = Column::hot(&world, &cases).await;
    let mut failures = Vec::new();
    for column in [&cold, &growing, &hot] {
        for (case, (ours, at)) in cases.iter().zip(&column.answers) {
            let found = differences(&case.method, &case.direct, ours, &world.gitlab.url(), at);
            failures.extend(found.iter().map(|found| format!("{}: {}: {found}", column.name, named(case))));
        }
    }
    failures.extend(refusals_that_tell(&cases, &cold, &hot));
    assert!(failures.is_empty(), "{storage:?}: {} differences\n{}", failures.len(), failures.join("\n"));
    let asked = || cases.iter().zip(&hot.answers).filter(|(case, _)| case.row.route != Route::Other);
    let hits = asked().filter(|(_, (ours, _))| ours.cache().contains("hit")).count();
    let admitted = asked().filter(|(case, _)| case.is_admitted()).count();
    assert!(hits * 2 >= admitted, "{storage:?}: {hits} hits of {admitted} admitted of {}", asked().count());
}

/// Refusals whose `Cache-Status` says whether larder has the archive.
fn refusals_that_tell<'a>(
    cases: &'a [Case],
    cold: &'a Column,
    hot: &'a Column,
) -> impl Iterator<Item = String> + 'a {
    let answers = cold.answers.iter().zip(&hot.answers);
    cases.iter().zip(answers).filter(|(case, _)| case.is_refused()).filter_map(
        |(case, ((cold, _), (hot, _)))| {
            let (cold, hot) = (cold.cache(), hot.cache());
            (cold != hot).then(|| format!("{}: {cold:?} cold, {hot:?} hot", named(case)))
        },
    )
}

/// A case in full, for whoever has to look at it.
fn named(case: &Case) -> String {
    format!("{:?} {} {} as {:?}", case.row.route, case.method, case.url, case.row.who)
}

#[tokio::test]
async fn nobody_can_tell_larder_from_an_older_gitlab_with_local_storage() {
    compare(Setup::default(), MODES[0]).await;
}

#[tokio::test]
async fn nobody_can_tell_larder_from_a_newer_gitlab_with_local_storage() {
    compare(Setup::default(), MODES[1]).await;
}

#[tokio::test]
async fn nobody_can_tell_larder_from_a_gitlab_that_redirects_to_an_object_store() {
    compare(Setup::default(), MODES[2]).await;
}

#[tokio::test]
async fn nobody_can_tell_larder_from_a_gitlab_that_sends_what_an_object_store_has() {
    compare(Setup::default(), MODES[3]).await;
}

#[tokio::test]
async fn nobody_can_tell_larder_from_a_gitlab_whose_host_has_no_table_of_types() {
    compare(Setup::default().mime_table(false), MODES[2]).await;
}
