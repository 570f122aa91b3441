//! What the stand-in counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::route::Class;

/// A snapshot of everything counted since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests by route class and method. Requests to the object store are under [`Class::Object`].
    pub requests: BTreeMap<(Class, String), u64>,
    /// Body bytes by route class, counted as they are handed to the connection.
    pub body_bytes: BTreeMap<Class, u64>,
    /// Body bytes received, by route class.
    pub received_bytes: BTreeMap<Class, u64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests to the object store, those that GitLab makes itself when it proxies included.
    pub store_requests: u64,
    /// Body bytes that left the object store, towards a client or through GitLab.
    pub store_bytes: u64,
    /// Requests to the object store that carried a credential of GitLab's.
    pub stray_credentials: u64,
    /// What HEAD requests made GitLab read from its store in [`Storage::Proxied`](crate::Storage::Proxied).
    pub proxied_head_bytes: u64,
    /// Connections accepted by GitLab.
    pub connections: u64,
    /// Connections accepted by the object store.
    pub store_connections: u64,
}

impl Counters {
    /// Requests of one class, whatever the method.
    pub fn requests_of(&self, class: Class) -> u64 {
        self.requests.iter().filter(|((counted, _), _)| *counted == class).map(|(_, count)| count).sum()
    }

    /// Body bytes sent for one class.
    pub fn bytes_of(&self, class: Class) -> u64 {
        self.body_bytes.get(&class).copied().unwrap_or_default()
    }

    /// How many artifact bytes left GitLab or its store, by whatever route: what "one transfer" is about.
    pub fn artifact_bytes(&self) -> u64 {
        let archives = [Class::JobArchive, Class::RefArchive, Class::RunnerArchive, Class::WebDownload];
        let entries = [Class::JobEntry, Class::RefEntry, Class::WebRaw];
        archives.into_iter().chain(entries).chain([Class::Object]).map(|class| self.bytes_of(class)).sum()
    }

    /// The snapshot as JSON: classes as in [`Class::as_str`], methods below them.
    pub fn to_json(&self) -> serde_json::Value {
        let mut requests = serde_json::Map::new();
        for ((class, method), count) in &self.requests {
            let methods = requests.entry(class.as_str()).or_insert_with(|| serde_json::json!({}));
            if let Some(methods) = methods.as_object_mut() {
                methods.insert(method.clone(), (*count).into());
            }
        }
        let by_class = |map: &BTreeMap<Class, u64>| -> serde_json::Value {
            map.iter()
                .map(|(class, count)| (class.as_str().to_owned(), serde_json::Value::from(*count)))
                .collect()
        };
        let statuses: serde_json::Map<String, serde_json::Value> =
            self.statuses.iter().map(|(status, count)| (status.to_string(), (*count).into())).collect();
        serde_json::json!({
            "requests": requests,
            "body_bytes": by_class(&self.body_bytes),
            "received_bytes": by_class(&self.received_bytes),
            "statuses": statuses,
            "store_requests": self.store_requests,
            "store_bytes": self.store_bytes,
            "stray_credentials": self.stray_credentials,
            "proxied_head_bytes": self.proxied_head_bytes,
            "connections": self.connections,
            "store_connections": self.store_connections,
        })
    }
}

/// The counters while they count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Counters>>);

impl Tally {
    pub(crate) fn snapshot(&self) -> Counters {
        self.0.lock().clone()
    }

    pub(crate) fn reset(&self) {
        *self.0.lock() = Counters::default();
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.0.lock());
    }

    pub(crate) fn request(&self, class: Class, method: &str) {
        self.count(|counters| {
            *counters.requests.entry((class, method.to_owned())).or_default() += 1;
            counters.store_requests += u64::from(class == Class::Object);
        });
    }

    pub(crate) fn received(&self, class: Class, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.count(|counters| *counters.received_bytes.entry(class).or_default() += bytes);
    }

    /// A meter for one body; `from_store`: its bytes also leave the object store.
    pub(crate) fn meter(&self, class: Class, from_store: bool) -> Meter {
        Meter { tally: self.clone(), class, from_store }
    }
}

/// Counts the bytes of one body.
#[derive(Debug)]
pub(crate) struct Meter {
    tally: Tally,
    class: Class,
    from_store: bool,
}

impl Meter {
    pub(crate) fn sent(&self, bytes: u64) {
        self.tally.count(|counters| {
            *counters.body_bytes.entry(self.class).or_default() += bytes;
            if self.from_store {
                counters.store_bytes += bytes;
            }
        });
    }
}
