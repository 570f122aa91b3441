//! What GitLab says of an archive, and what larder's own judgement makes of it: a table, made once by the real code.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use larder::gitlab::grant::judge::{self, Condition};
use larder::gitlab::grant::{Answer, AskedPath, Facts, Opening, Relation, StorageRules, Verdict, Yes};
use larder::http::Etag;

/// One upload of the job's archive.
pub(crate) type Version = usize;

/// Versions there can be.
pub(crate) const VERSIONS: usize = 3;

/// By what versions can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Newest GitLab: strong entity tags.
    Strong,
    /// Older GitLab: length, date and tail.
    Dated,
    /// Older GitLab, and an upload of the same length, date and tail.
    Twins,
    /// Older GitLab, and an upload of the same length and date that ends otherwise.
    Tails,
    /// Neither a length nor a date while the archive arrives.
    Unsized,
}

/// What a caller is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum About {
    /// Nothing is held.
    Nothing,
    /// A version that is still arriving.
    Growing(Version),
    /// A version of which all is known.
    Known(Version),
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Meaning {
    /// Yes, to what it was asked about.
    Yes,
    /// Yes, to what can't be told from what it was asked about until that has ended otherwise.
    YesSoFar,
    /// Yes, to something that is another archive.
    Different,
    /// Yes, to something that may be the same archive.
    Unproven,
    /// No.
    Refused,
    /// It answers another question than the one it is taken for.
    NotOurs,
}

/// The meaning of every answer to every question.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// By what was sent, what it is judged about, and what GitLab has.
    meanings: Vec<(About, About, Option<Version>, Meaning)>,
    /// What is asked in the same words.
    alike: Vec<(About, About)>,
    yes: Yes,
}

impl Judgement {
    /// Asks larder's code once for everything that can be asked.
    pub(crate) fn of(words: Words) -> Self {
        let versions = || (0..VERSIONS).map(Some).chain([None]);
        let subjects = versions().flat_map(|version| match version {
            None => vec![About::Nothing],
            Some(version) => vec![About::Growing(version), About::Known(version)],
        });
        let pairs = subjects.flat_map(|sent| [(sent, sent), (sent, sent.later())]);
        let pairs: Vec<(About, About)> = pairs.collect();
        let meanings = pairs.iter().flat_map(|(sent, about)| {
            versions().map(|now| (*sent, *about, now, meaning(words, (*sent, *about), now)))
        });
        let meanings = meanings.collect();
        let asked = |about| Condition::about(held(words, about).as_ref());
        let alike = pairs.into_iter().filter(|(sent, about)| asked(*sent) == asked(*about)).collect();
        let opening = judge::open(StatusCode::OK, &HeaderMap::new(), &rules(), AskedPath::default());
        let Opening::Body(yes, _) = opening else { panic!("a body opens") };
        Self { meanings, alike, yes }
    }

    /// What it means about `about` that GitLab has `now` for a caller, by its answer to a question sent about `sent`.
    pub(crate) fn meaning(&self, sent: About, about: About, now: Option<Version>) -> Meaning {
        let found = self.meanings.iter().find(|(s, a, n, _)| (*s, *a, *n) == (sent, about, now));
        found.expect("every question has a meaning").3
    }

    /// Whether a question sent about `sent` is the one that would be sent about `about`.
    pub(crate) fn are_alike(&self, sent: About, about: About) -> bool {
        self.alike.contains(&(sent, about))
    }

    /// A yes: larder's code makes no grant without one.
    pub(crate) fn yes(&self) -> Yes {
        self.yes.clone()
    }
}

impl About {
    /// The same when all is known of it.
    fn later(self) -> Self {
        match self {
            Self::Growing(version) => Self::Known(version),
            Self::Nothing | Self::Known(_) => self,
        }
    }

    fn version(self) -> Option<Version> {
        match self {
            Self::Nothing => None,
            Self::Growing(version) | Self::Known(version) => Some(version),
        }
    }
}

fn held(words: Words, about: About) -> Option<Facts> {
    about.version().map(|version| facts(words, version, matches!(about, About::Growing(_))))
}

fn meaning(words: Words, (sent, about): (About, About), now: Option<Version>) -> Meaning {
    let (asked, held) = (held(words, sent), held(words, about));
    let asked = Condition::about(asked.as_ref());
    let (status, fields, body) = answer(words, now, &asked);
    let answer = Answer { status, fields: &fields, body: Some(&body) };
    match judge::judge(held.as_ref(), &asked, answer, &rules(), AskedPath::default()) {
        Verdict::Yes(_, shown) => {
            let end = about.version().and_then(|version| facts(words, version, false).tail);
            if shown.tail.is_none() || shown.tail == end { Meaning::Yes } else { Meaning::YesSoFar }
        }
        Verdict::Refused => Meaning::Refused,
        Verdict::NotOurs => {
            assert_ne!(sent, about, "{words:?} {now:?}: an answer to our question");
            Meaning::NotOurs
        }
        Verdict::Other(Relation::Unproven, ..) => Meaning::Unproven,
        Verdict::Other(Relation::Different, ..) => Meaning::Different,
        Verdict::Other(Relation::Same, ..) => panic!("the same and another"),
    }
}

fn rules() -> StorageRules {
    StorageRules { gitlab: "https://gitlab.example.com".parse().unwrap(), external: None, hosts: None }
}

/// The bytes of a version. Twins differ in their first byte, which no probe sees.
fn content(words: Words, version: Version) -> Vec<u8> {
    let number = u8::try_from(version).unwrap();
    match words {
        Words::Twins => [vec![number], vec![0xff; 2_000]].concat(),
        Words::Tails => vec![number; 2_000],
        _ => vec![number; 2_000 + 500 * version],
    }
}

fn facts(words: Words, version: Version, growing: bool) -> Facts {
    let content = content(words, version);
    let dates = !matches!(words, Words::Twins | Words::Tails);
    let date = 1_700_000_000 + if dates { u64::try_from(version).unwrap() } else { 0 };
    Facts {
        etag: Etag::quoting(&format!("sha256-{version}")).filter(|_| words == Words::Strong),
        object: None,
        length: u64::try_from(content.len()).ok().filter(|_| words != Words::Unsized || !growing),
        modified: Some(date).filter(|_| words != Words::Unsized),
        tail: content.last_chunk::<1024>().map(|tail| tail.to_vec().into()).filter(|_| !growing),
        sha256: None,
    }
}

/// GitLab's answer to a probe with this condition, by somebody for whom it has `now`.
fn answer(words: Words, now: Option<Version>, condition: &Condition) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut fields = HeaderMap::new();
    let Some(version) = now else {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return (StatusCode::NOT_FOUND, fields, br#"{"message":"404 Not Found"}"#.to_vec());
    };
    let (facts, content) = (facts(words, version, false), content(words, version));
    if let Some(date) = facts.modified {
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(date);
        fields.insert(header::LAST_MODIFIED, httpdate::fmt_http_date(date).parse().unwrap());
    }
    let tag = facts.etag.as_ref().map_or("W/\"12ae32cb1ec02d01eda3581b127c1fee\"", Etag::as_str);
    fields.insert(header::ETAG, tag.parse().unwrap());
    if facts.etag.is_some() && condition.validator == facts.etag {
        return (StatusCode::NOT_MODIFIED, fields, Vec::new());
    }
    let total = content.len();
    let [first, last] = [condition.range.0, condition.range.1].map(|at| usize::try_from(at).unwrap());
    if first >= total {
        return (StatusCode::RANGE_NOT_SATISFIABLE, fields, Vec::new());
    }
    let last = last.min(total - 1);
    fields.insert(header::CONTENT_RANGE, format!("bytes {first}-{last}/{total}").parse().unwrap());
    (StatusCode::PARTIAL_CONTENT, fields, content[first..=last].to_vec())
}
