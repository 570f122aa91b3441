//! The artifact routes that are read, each in its one canonical spelling.

use http::uri::PathAndQuery;

use super::{CREDENTIAL_KEYS, Class, EntryName, Question, spelling};
use crate::base::key::{JobId, Key, RefId};

/// Query key of the runner's route: answer with a redirect to the object store rather than with its bytes.
const DIRECT_DOWNLOAD: &str = "direct_download";

/// Query keys of the routes by ref: the job's name, and where to look besides the latest pipeline.
const JOB: &str = "job";
const RECENT: &str = "search_recent_successful_pipelines";

/// Query keys of the browser's routes: which of a job's files, and whether GitLab itself must send the bytes.
const FILE_TYPE: &str = "file_type";
const PROXY: &str = "proxy";

type QueryPairs<'a> = Vec<(&'a str, &'a str)>;

/// The question that a target asks.
pub(super) fn question(root: &str, target: &PathAndQuery) -> Option<Question> {
    // Nobody writes a name of GitLab's so in earnest.
    if crate::http::target::is_marked(target.as_str()) {
        return None;
    }
    let path = target.path().strip_prefix(root)?;
    match path.strip_prefix("/api/v4/") {
        Some(api) => match api.split_once('/')? {
            ("projects", rest) => project(target, rest),
            ("jobs", rest) => runner(target, rest),
            _ => None,
        },
        None => web(target, path.strip_prefix('/')?),
    }
}

/// Below `/projects/`.
fn project(target: &PathAndQuery, rest: &str) -> Option<Question> {
    let (project, rest) = rest.split_once('/')?;
    let project = spelling::project(project)?;
    let rest = rest.strip_prefix("jobs/")?;
    match rest.split_once('/')? {
        ("artifacts", rest) => by_ref(target, project, rest),
        (job, rest) => by_job(target, project, JobId::parse(job)?, rest),
    }
}

/// A1 and A2.
fn by_job(target: &PathAndQuery, project: &str, job: JobId, rest: &str) -> Option<Question> {
    pairs(target, &[])?;
    let (project, key) = (Some(project.to_owned()), Key::Job(job));
    let Some(name) = rest.strip_prefix("artifacts/") else {
        let archive = rest == "artifacts";
        return archive.then(|| Question {
            class: Class::Job,
            project,
            key,
            target: target.clone(),
            entry: None,
        });
    };
    // A3: from 18.8 on, the listing of an archive, whatever its members are called.
    if name == "tree" || name.starts_with("tree.") {
        return None;
    }
    let archive = with_path(target, target.path().strip_suffix(name)?.strip_suffix('/')?)?;
    let entry = Some(EntryName { name: spelling::name(name)?, class: Class::Job, archive });
    Some(Question { class: Class::JobEntry, project, key, target: target.clone(), entry })
}

/// A4 and A5, below `/projects/:id/jobs/artifacts/`. GitLab declares `download` before `raw`, and takes as much as it
/// can for the ref: a path that ends with `/download` is an archive's, and the last `/raw/` splits.
fn by_ref(target: &PathAndQuery, project: &str, rest: &str) -> Option<Question> {
    let pairs = pairs(target, &[JOB, RECENT])?;
    let (name, entry) = match rest.strip_suffix("/download") {
        Some(name) => (name, None),
        None => rest.rsplit_once("/raw/").map(|(name, entry)| (name, Some(entry)))?,
    };
    let key = ref_key(project, &spelling::name(name)?, &pairs)?;
    let entry = match entry {
        None => None,
        Some(entry) => {
            let path = target.path().strip_suffix(entry)?.strip_suffix("/raw/")?;
            let archive = with_path(target, &format!("{path}/download"))?;
            Some(EntryName { name: spelling::name(entry)?, class: Class::Ref, archive })
        }
    };
    let class = if entry.is_some() { Class::RefEntry } else { Class::Ref };
    Some(Question { class, project: Some(project.to_owned()), key, target: target.clone(), entry })
}

fn ref_key(project: &str, name: &str, pairs: &QueryPairs<'_>) -> Option<Key> {
    let value = |wanted: &str| pairs.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
    let job = spelling::decode_value(value(JOB)?).filter(|job| !job.is_empty())?;
    let recent = match value(RECENT) {
        None | Some("false") => "false",
        Some("true") => "true",
        // Grape answers 400 to what it can't read as a boolean, and reads more than these two.
        Some(_) => return None,
    };
    Some(Key::Ref(RefId::of([project.as_bytes(), name.as_bytes(), &job, recent.as_bytes()])))
}

/// R1, below `/jobs/`.
fn runner(target: &PathAndQuery, rest: &str) -> Option<Question> {
    let job = JobId::parse(rest.strip_suffix("/artifacts")?)?;
    let target = direct(target.path(), &pairs(target, &[DIRECT_DOWNLOAD])?)?;
    Some(Question { class: Class::Runner, project: None, key: Key::Job(job), target, entry: None })
}

/// The runner's target with `direct_download=true`, the other pairs as they came.
fn direct(path: &str, pairs: &QueryPairs<'_>) -> Option<PathAndQuery> {
    let mut target = format!("{path}?");
    for (key, value) in pairs {
        match (*key, *value) {
            (DIRECT_DOWNLOAD, "true" | "false") => {}
            // As above.
            (DIRECT_DOWNLOAD, _) => return None,
            _ => target.extend([*key, "=", *value, "&"]),
        }
    }
    target.push_str("direct_download=true");
    target.parse().ok()
}

/// W1 and W3. Their own credential is the session cookie; keys of the API's are none of theirs.
fn web(target: &PathAndQuery, path: &str) -> Option<Question> {
    let (project, rest) = path.split_once("/-/jobs/")?;
    let project = Some(spelling::web_project(project)?.to_owned());
    let (job, rest) = rest.split_once('/')?;
    let key = Key::Job(JobId::parse(job)?);
    let rest = rest.strip_prefix("artifacts/")?;
    let pairs = spelling::pairs(target.query().unwrap_or_default(), |key| matches!(key, FILE_TYPE | PROXY))?;
    let read = |(key, value): &(&str, &str)| match *key {
        FILE_TYPE => *value == "archive",
        _ => matches!(*value, "true" | "false"),
    };
    if !pairs.iter().all(read) {
        return None;
    }
    if rest == "download" {
        return Some(Question { class: Class::Web, project, key, target: target.clone(), entry: None });
    }
    let name = rest.strip_prefix("raw/")?;
    let path = target.path().strip_suffix(name)?.strip_suffix("/raw/")?;
    let archive = with_path(target, &format!("{path}/download"))?;
    let entry = Some(EntryName { name: spelling::name(name)?, class: Class::Web, archive });
    Some(Question { class: Class::WebEntry, project, key, target: target.clone(), entry })
}

/// The query's pairs: credentials, and those that the route knows.
fn pairs<'a>(target: &'a PathAndQuery, known: &[&str]) -> Option<QueryPairs<'a>> {
    let allowed = |key: &str| CREDENTIAL_KEYS.contains(&key) || known.contains(&key);
    spelling::pairs(target.query().unwrap_or_default(), allowed)
}

/// Another path with the same query.
fn with_path(target: &PathAndQuery, path: &str) -> Option<PathAndQuery> {
    match target.query() {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class, ref or job, entry and archive's target of a question.
    fn asked(target: &str) -> Option<(Class, Key, Option<String>, String)> {
        let question = question("", &target.parse().unwrap())?;
        let name = question.entry.as_ref().map(|entry| entry.name.clone());
        Some((question.class, question.key, name, question.of_archive().target.to_string()))
    }

    fn by_ref(project: &str, name: &str, job: &str, recent: &str) -> Key {
        Key::Ref(RefId::of([project.as_bytes(), name.as_bytes(), job.as_bytes(), recent.as_bytes()]))
    }

    #[test]
    fn entries_by_job_are_questions_about_the_archive_beside_them() {
        let job = Key::Job(JobId::parse("42").unwrap());
        for (target, class, name, archive) in [
            (
                "/api/v4/projects/7/jobs/42/artifacts/a.txt",
                Class::JobEntry,
                "a.txt",
                "/api/v4/projects/7/jobs/42/artifacts",
            ),
            (
                "/api/v4/projects/g%2Fp/jobs/42/artifacts/d%20r/%C3%A9.txt?job_token=t",
                Class::JobEntry,
                "d r/é.txt",
                "/api/v4/projects/g%2Fp/jobs/42/artifacts?job_token=t",
            ),
            (
                "/api/v4/projects/7/jobs/42/artifacts/artifacts/tree",
                Class::JobEntry,
                "artifacts/tree",
                "/api/v4/projects/7/jobs/42/artifacts",
            ),
            (
                "/g/s/p.x/-/jobs/42/artifacts/raw/a/b.html",
                Class::WebEntry,
                "a/b.html",
                "/g/s/p.x/-/jobs/42/artifacts/download",
            ),
            (
                "/g/p/-/jobs/42/artifacts/raw/a?file_type=archive",
                Class::WebEntry,
                "a",
                "/g/p/-/jobs/42/artifacts/download?file_type=archive",
            ),
        ] {
            let expected = (class, job, Some(name.to_owned()), archive.to_owned());
            assert_eq!(asked(target), Some(expected), "{target}");
        }
    }

    #[test]
    fn refs_are_read_as_greedily_as_gitlab_reads_them() {
        let base = "/api/v4/projects/7/jobs/artifacts";
        for (path, name, entry) in [
            ("main/download", "main", None),
            ("feature/x/download", "feature/x", None),
            ("feature%2Fx/download", "feature/x", None),
            ("main/raw/dir/download", "main/raw/dir", None),
            ("main/raw/a.txt", "main", Some("a.txt")),
            ("main/raw/x/raw/y", "main/raw/x", Some("y")),
            ("feature%2fx/raw/d/a.txt", "feature/x", Some("d/a.txt")),
        ] {
            let (class, key, found, archive) = asked(&format!("{base}/{path}?job=build")).unwrap();
            assert_eq!(key, by_ref("7", name, "build", "false"), "{path}");
            assert_eq!(found.as_deref(), entry, "{path}");
            assert_eq!(class, if entry.is_some() { Class::RefEntry } else { Class::Ref });
            assert!(archive.ends_with("/download?job=build"), "{archive}");
        }
    }

    #[test]
    fn what_else_decides_about_a_ref_is_part_of_its_key() {
        let base = "/api/v4/projects/7/jobs/artifacts/main/download";
        let key = |query: &str| asked(&format!("{base}?{query}")).map(|(_, key, ..)| key);
        let plain = key("job=build");
        assert!(plain.is_some());
        assert_eq!(key("job_token=t&job=build"), plain, "who asks doesn't");
        assert_eq!(key("job=buil%64"), plain);
        assert_eq!(key("job=build&search_recent_successful_pipelines=false"), plain);
        assert_ne!(key("job=build&search_recent_successful_pipelines=true"), plain);
        assert_ne!(key("job=test"), plain);
    }

    #[test]
    fn a_plus_in_the_query_is_a_space_and_one_in_the_path_is_none() {
        let base = "/api/v4/projects/7/jobs/artifacts";
        let key = |rest: &str| asked(&format!("{base}/{rest}")).map(|(_, key, ..)| key);
        for (rest, name, job) in [
            ("main/download?job=a+b", "main", "a b"),
            ("main/download?job=a%20b", "main", "a b"),
            ("main/download?job=a%2Bb", "main", "a+b"),
            ("main/download?job=a%2bb", "main", "a+b"),
            ("main/download?job=%2B+%2B", "main", "+ +"),
            ("main/raw/x.txt?job=a+b", "main", "a b"),
            ("a+b/download?job=c", "a+b", "c"),
            ("a%2Bb/download?job=c", "a+b", "c"),
            ("a%20b/download?job=c", "a b", "c"),
        ] {
            assert_eq!(key(rest), Some(by_ref("7", name, job, "false")), "{rest}");
        }
        let (_, _, entry, _) = asked("/api/v4/projects/7/jobs/42/artifacts/a+b.txt").unwrap();
        assert_eq!(entry.as_deref(), Some("a+b.txt"));
    }

    #[test]
    fn the_browsers_download_is_a_question() {
        for target in [
            "/g/p/-/jobs/42/artifacts/download",
            "/g/p/-/jobs/42/artifacts/download?file_type=archive&proxy=true",
        ] {
            let question = question("", &target.parse().unwrap()).unwrap();
            assert_eq!((question.class, question.target.as_str()), (Class::Web, target));
        }
    }

    #[test]
    fn what_may_be_read_in_two_ways_passes() {
        for target in [
            "/api/v4/projects/7/jobs/42/artifacts/tree",
            "/api/v4/projects/7/jobs/42/artifacts/tree.json",
            "/api/v4/projects/7/jobs/42/artifacts/tree?path=a",
            "/api/v4/projects/7/jobs/42/artifacts/a//b",
            "/api/v4/projects/7/jobs/42/artifacts/a/",
            "/api/v4/projects/7/jobs/42/artifacts/./a",
            "/api/v4/projects/7/jobs/42/artifacts/../a",
            "/api/v4/projects/7/jobs/42/artifacts/%2e%2e/a",
            "/api/v4/projects/7/jobs/42/artifacts/a%2F..%2Fb",
            "/api/v4/projects/7/jobs/42/artifacts/a%00",
            "/api/v4/projects/7/jobs/42/artifacts/a%0a",
            "/api/v4/projects/7/jobs/42/artifacts/%ff",
            "/api/v4/projects/7/jobs/42/artifacts/a%",
            "/api/v4/projects/7/jobs/42/artifacts/a;b",
            "/api/v4/projects/7/jobs/42/artifacts/a?unknown=1",
            "/api/v4/projects/7/jobs/artifacts/main/download",
            "/api/v4/projects/7/jobs/artifacts/main/download?job=",
            "/api/v4/projects/7/jobs/artifacts/main/download?job=a&job=b",
            "/api/v4/projects/7/jobs/artifacts/main/download?job=a&search_recent_successful_pipelines=1",
            "/api/v4/projects/7/jobs/artifacts//download?job=a",
            "/api/v4/projects/7/jobs/artifacts/download?job=a",
            "/api/v4/projects/7/jobs/artifacts/main//x/download?job=a",
            "/api/v4/projects/7/jobs/artifacts/main/../x/download?job=a",
            "/api/v4/projects/7/jobs/artifacts/main%2Fraw%2Fx/raw/y?job=a",
            "/api/v4/projects/7/jobs/artifacts/main/raw/x%2Fraw%2Fy?job=a",
            "/api/v4/projects/7/jobs/artifacts/main/raw/x%2Fdownload?job=a",
            "/api/v4/projects/7/jobs/artifacts/main/raw/?job=a",
            "/api/v4/projects/7/jobs/artifacts/main%/download?job=a",
            "/p/-/jobs/42/artifacts/download",
            "/g//p/-/jobs/42/artifacts/download",
            "/g/../p/-/jobs/42/artifacts/download",
            "/g/%70/-/jobs/42/artifacts/download",
            "/g/p/-/jobs/042/artifacts/download",
            "/g/p/-/jobs/42/artifacts/download?file_type=trace",
            "/g/p/-/jobs/42/artifacts/download?private_token=t",
            "/g/p/-/jobs/42/artifacts/download/",
            "/g/p/-/jobs/42/artifacts/browse",
            "/g/p/-/jobs/42/artifacts/file/a",
            "/g/p/-/jobs/42/artifacts/external_file/a",
            "/g/p/-/jobs/artifacts/main/download?job=a",
        ] {
            assert_eq!(asked(target), None, "{target}");
        }
    }
}
