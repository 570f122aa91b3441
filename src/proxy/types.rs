//! What GitLab was seen to say of files with an extension.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;

use crate::content;

/// Extensions remembered, some 100 KiB; a pipeline has a few dozen. Further ones are named by our own table.
const REMEMBERED: usize = 1024;

/// Longest extension that is remembered.
const LONGEST: usize = 32;

/// Types by extension, from answers of GitLab's own: it names them by a table of its host, which need not be ours.
#[derive(Debug, Default)]
pub struct Types(Mutex<HashMap<String, HeaderValue>>);

impl Types {
    /// The type that GitLab gives to a file of this name, by what it said last, else by our table.
    pub(super) fn of(&self, name: &str) -> HeaderValue {
        let known = key(name).and_then(|key| self.0.lock().get(&key).cloned());
        known.unwrap_or_else(|| HeaderValue::from_static(content::by_extension(name)))
    }

    /// Notes the type in an answer of GitLab's to a question for this very file.
    pub(super) fn learn(&self, name: &str, fields: &HeaderMap) {
        // Workhorse names the file it unpacks; a page that came instead has no name.
        let named = fields.contains_key(header::CONTENT_DISPOSITION);
        if let (Some(key), Some(kind), true) = (key(name), fields.get(header::CONTENT_TYPE), named) {
            let mut known = self.0.lock();
            if known.len() < REMEMBERED || known.contains_key(&key) {
                known.insert(key, kind.clone());
            }
        }
    }
}

fn key(name: &str) -> Option<String> {
    content::extension(name).filter(|extension| extension.len() <= LONGEST).map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gitlab_says_of_an_extension_counts_more_than_the_table() {
        let types = Types::default();
        let answer = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            pairs.iter().map(pair).collect()
        };
        let named = ("content-disposition", "attachment; filename=\"a.py\"");
        assert_eq!(types.of("a.py"), "text/x-python; charset=utf-8");
        types.learn("d/a.py", &answer(&[("content-type", "application/octet-stream"), named]));
        assert_eq!(types.of("b.PY"), "application/octet-stream");
        types.learn("a.txt", &answer(&[("content-type", "text/html")]));
        assert_eq!(types.of("a.txt"), "text/plain; charset=utf-8", "a page is no file");
        for n in 0..2 * REMEMBERED {
            types.learn(&format!("a.x{n}"), &answer(&[("content-type", "a/b"), named]));
        }
        assert_eq!(types.0.lock().len(), REMEMBERED);
    }
}
