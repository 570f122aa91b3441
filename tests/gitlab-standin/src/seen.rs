//! The log of requests that tests look into.

use std::collections::VecDeque;
use std::net::SocketAddr;

use parking_lot::Mutex;

use crate::route::Class;

/// How many requests are remembered: a benchmark must not fill the memory.
const REMEMBERED: usize = 10_000;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its class; [`Class::Object`] means that it went to the object store.
    pub class: Class,
    /// The method.
    pub method: String,
    /// The request target, raw.
    pub target: String,
    /// The fields, in the order and spelling they came in.
    pub headers: Vec<(String, String)>,
    /// Who connected.
    pub peer: SocketAddr,
}

impl Seen {
    /// The first value of a field, whatever the spelling of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether any field or the target holds `text`.
    pub fn carries(&self, text: &str) -> bool {
        self.target.contains(text) || self.headers.iter().any(|(_, value)| value.contains(text))
    }
}

/// The last requests to both servers.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<VecDeque<Seen>>);

impl Log {
    pub(crate) fn add(&self, seen: Seen) {
        let mut log = self.0.lock();
        if log.len() == REMEMBERED {
            log.pop_front();
        }
        log.push_back(seen);
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}
