//! What GitLab was seen to say of files, by route and extension.
//!
//! On the route by job (A2) Workhorse names a file by its extension, and so an empty one on every route; by a table of its
//! host, which need not be ours: beside what Go knows by itself nothing is guessed, GitLab is asked. On the other routes it
//! names a file by what is in it: since 15.4 SVG alone, before that more.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{Mutex, MutexGuard};

use crate::gitlab::grant::judge::content_length;
use crate::gitlab::route::Class;
use crate::http::content;

/// Extensions remembered for each way of naming, least recently used first, some 100 KiB; a pipeline has a few dozen.
const REMEMBERED: u64 = 1024;

/// Ways of naming: one or two a route.
const WAYS: usize = 2 * Class::ALL.len();

/// Those who may ask at once about extensions that nothing is known of: one for each of so many groups of them.
const ASKING: usize = 64;

/// How long somebody waits for the one who asks about an extension of the same group; then it asks itself.
const PATIENCE: Duration = Duration::from_secs(1);

const SVG: &str = "image/svg+xml";

/// What decides what a file is called on a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    class: Class,
    /// Whether its extension decides, not its content.
    by_extension: bool,
    name: &'a str,
}

impl<'a> Named<'a> {
    /// A file of this name and length.
    pub(super) const fn new(class: Class, name: &'a str, size: u64) -> Self {
        // Of an empty one there is nothing to look at.
        Self { class, by_extension: matches!(class, Class::JobEntry) || size == 0, name }
    }

    /// Whether what is in it decides.
    pub(super) const fn is_by_content(&self) -> bool {
        !self.by_extension
    }

    fn extension(&self) -> &'a str {
        content::extension(self.name).unwrap_or_default()
    }

    fn way(&self) -> usize {
        2 * self.class.index() + usize::from(self.by_extension)
    }
}

/// Types by route and extension, from answers of GitLab's own.
#[derive(Debug)]
pub(crate) struct Types {
    known: [Cache<String, HeaderValue>; WAYS],
    asking: [Mutex<()>; ASKING],
}

impl Default for Types {
    fn default() -> Self {
        let known =
            |_| Cache::builder().max_capacity(REMEMBERED).eviction_policy(EvictionPolicy::lru()).build();
        Self { known: std::array::from_fn(known), asking: std::array::from_fn(|_| Mutex::new(())) }
    }
}

impl Types {
    /// The type that GitLab gives to a file, by what it said last on this route, else by what holds for any GitLab; `None`
    /// if that depends on its host. One whose content decides is taken for one that isn't SVG.
    pub(super) fn of(&self, named: Named<'_>) -> Option<HeaderValue> {
        let heard = self.known.get(named.way()).and_then(|known| known.get(named.extension()));
        heard.or_else(|| {
            let fixed =
                if named.by_extension { content::by_extension(named.name) } else { Some(content::UNKNOWN) };
            fixed.map(HeaderValue::from_static)
        })
    }

    /// The type of one whose content was looked at.
    pub(super) fn of_content(&self, named: Named<'_>, is_svg: bool) -> Option<HeaderValue> {
        if is_svg { Some(HeaderValue::from_static(SVG)) } else { self.of(named) }
    }

    /// Waits for whoever asks about the same extension, but not for long, and is the one who asks then, until what it
    /// returns is dropped; `None`: it need not ask any more, or asks beside another.
    pub(super) async fn turn(&self, named: Named<'_>) -> Option<MutexGuard<'_, ()>> {
        if self.of(named).is_some() {
            return None;
        }
        let group =
            named.extension().bytes().fold(named.way(), |sum, byte| sum.wrapping_mul(31) ^ usize::from(byte));
        let turn = tokio::time::timeout(PATIENCE, self.asking.get(group % ASKING)?.lock()).await.ok()?;
        self.of(named).is_none().then_some(turn)
    }

    /// Notes the type in an answer of GitLab's to a question for this very file.
    pub(super) fn learn(&self, class: Class, name: &str, fields: &HeaderMap) {
        // Workhorse names the file it unpacks; a page that came instead has no name. Compressed on its way it has no length,
        // and isn't empty.
        if fields.contains_key(header::CONTENT_DISPOSITION)
            && let Some(kind) = fields.get(header::CONTENT_TYPE)
        {
            self.heard(Named::new(class, name, content_length(fields).unwrap_or(1)), kind);
        }
    }

    /// Notes what GitLab said of this very file.
    pub(super) fn heard(&self, named: Named<'_>, kind: &HeaderValue) {
        let extension = named.extension();
        // That one file is SVG says nothing of the next of its extension.
        let of_it_alone = named.is_by_content() && kind.as_bytes().starts_with(SVG.as_bytes());
        if extension.len() <= content::LONGEST_EXTENSION
            && !of_it_alone
            && let Some(known) = self.known.get(named.way())
        {
            known.insert(extension.to_owned(), kind.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn said(kind: &'static str, length: &'static str) -> HeaderMap {
        answer(&[
            ("content-type", kind),
            ("content-length", length),
            ("content-disposition", "attachment; filename=\"x\""),
        ])
    }

    #[test]
    fn beyond_what_go_knows_by_itself_gitlab_is_asked() {
        let types = Types::default();
        let of = |class, name, size| types.of(Named::new(class, name, size));
        assert_eq!(of(Class::JobEntry, "a.JSON", 1).unwrap(), "application/json");
        assert_eq!(of(Class::JobEntry, "Makefile", 1).unwrap(), content::UNKNOWN);
        assert_eq!(of(Class::JobEntry, "a.txt", 1), None);
        for class in [Class::RefEntry, Class::WebEntry] {
            assert_eq!(of(class, "a.txt", 1).unwrap(), content::UNKNOWN);
            assert_eq!(of(class, "a.html", 1).unwrap(), content::UNKNOWN);
            assert_eq!(of(class, "a.txt", 0), None);
            assert_eq!(of(class, "a.html", 0).unwrap(), "text/html; charset=utf-8");
        }
    }

    #[test]
    fn what_gitlab_says_of_a_route_and_an_extension_holds_there_and_nowhere_else() {
        let types = Types::default();
        let of = |class, name, size| types.of(Named::new(class, name, size));
        types.learn(Class::JobEntry, "d/a.py", &said("text/x-python", "9"));
        assert_eq!(of(Class::JobEntry, "b.py", 1).unwrap(), "text/x-python");
        assert_eq!(of(Class::JobEntry, "b.py", 0).unwrap(), "text/x-python");
        assert_eq!(of(Class::JobEntry, "b.PY", 1), None, "Go looks for the very letters first");
        assert_eq!(of(Class::RefEntry, "b.py", 1).unwrap(), content::UNKNOWN);
        assert_eq!(of(Class::RefEntry, "b.py", 0), None);
        types.learn(Class::RefEntry, "a.py", &said("text/plain; charset=utf-8", "9"));
        assert_eq!(of(Class::RefEntry, "b.py", 1).unwrap(), "text/plain; charset=utf-8");
        assert_eq!(of(Class::WebEntry, "b.py", 1).unwrap(), content::UNKNOWN);
        types.learn(Class::RefEntry, "a.py", &said("text/x-empty", "0"));
        assert_eq!(of(Class::RefEntry, "b.py", 0).unwrap(), "text/x-empty");
        assert_eq!(of(Class::RefEntry, "b.py", 1).unwrap(), "text/plain; charset=utf-8");
        types.learn(Class::JobEntry, "a.json", &said("text/json", "9"));
        assert_eq!(of(Class::JobEntry, "a.json", 1).unwrap(), "text/json", "also of what Go knows");
    }

    #[test]
    fn pages_and_images_teach_nothing() {
        let types = Types::default();
        types.learn(Class::JobEntry, "a.txt", &answer(&[("content-type", "text/html")]));
        assert_eq!(types.of(Named::new(Class::JobEntry, "a.txt", 1)), None, "a page is no file");
        types.learn(Class::RefEntry, "a.txt", &said(SVG, "9"));
        let text = Named::new(Class::RefEntry, "b.txt", 1);
        assert_eq!(types.of_content(text, false).unwrap(), content::UNKNOWN);
        assert_eq!(types.of_content(text, true).unwrap(), SVG);
    }

    #[test]
    fn so_many_are_remembered_and_the_last_is_among_them() {
        let types = Types::default();
        for n in 0..3 * REMEMBERED {
            types.learn(Class::JobEntry, &format!("a.x{n}"), &said("a/b", "1"));
        }
        types.learn(Class::JobEntry, "a.last", &said("a/last", "1"));
        types.known.iter().for_each(Cache::run_pending_tasks);
        assert!(types.known.iter().map(Cache::entry_count).sum::<u64>() <= REMEMBERED);
        assert_eq!(types.of(Named::new(Class::JobEntry, "b.last", 1)).unwrap(), "a/last");
        let long = format!("a.{}", "x".repeat(33));
        types.learn(Class::JobEntry, &long, &said("a/b", "1"));
        assert_eq!(types.of(Named::new(Class::JobEntry, &long, 1)).unwrap(), content::UNKNOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_about_an_extension_and_the_others_wait_for_that_but_not_for_long() {
        let types = Types::default();
        let text = Named::new(Class::JobEntry, "a.txt", 1);
        assert!(types.turn(Named::new(Class::JobEntry, "a.json", 1)).await.is_none());
        let first = types.turn(text).await;
        assert!(first.is_some());
        assert!(types.turn(text).await.is_none(), "it took long");
        let (second, ()) = tokio::join!(types.turn(text), async {
            tokio::task::yield_now().await;
            types.heard(text, &HeaderValue::from_static("text/plain"));
            drop(first);
        });
        assert!(second.is_none(), "it is known by now");
    }
}
