//! What may change while larder serves.

use std::sync::Arc;

use parking_lot::RwLock;

use super::tls::Certificates;
use super::{ConnPlaces, Settings};

/// The settings and certificates that the next connection is served with. Connections that are open keep theirs.
#[derive(Debug)]
pub(crate) struct LiveSettings {
    settings: RwLock<Arc<Settings>>,
    certificates: RwLock<Option<Arc<Certificates>>>,
    places: Arc<ConnPlaces>,
}

impl LiveSettings {
    /// What holds from the start.
    pub(crate) fn new(settings: Settings, certificates: Option<Arc<Certificates>>) -> Self {
        let (settings, certificates) = (RwLock::new(Arc::new(settings)), RwLock::new(certificates));
        Self { settings, certificates, places: Arc::default() }
    }

    /// What holds from now on; `listen` stays as it was, since the listeners do.
    pub(crate) fn change(&self, settings: Settings, certificates: Option<Arc<Certificates>>) {
        *self.certificates.write() = certificates;
        *self.settings.write() = Arc::new(settings);
        self.places.look();
    }

    /// The settings now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    pub(super) fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.read().clone()
    }

    pub(super) const fn places(&self) -> &Arc<ConnPlaces> {
        &self.places
    }
}
