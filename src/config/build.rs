//! Effective values into typed settings, and the checks that need more than one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Config;
use super::keys::{self, TypedKey};
use super::layers::Effective;
use super::problem::{Problem, Problems};
use super::read::Written;
use super::spec::{Presence, Spec};
use crate::base::pace::Least;
use crate::gitlab::urls::Origin;
use crate::http::hop::Ignored;
use crate::server::ListenAddress;
use crate::{access, admin, proxy, server, store, telemetry, upstream};

/// The configuration, if each value is what its key expects and they hold together.
pub(super) fn config(effective: &[Effective], problems: &mut Problems) -> Option<Config> {
    let mut reader = SectionReader { effective, problems };
    // Each section is read before any is missed, so that all problems are found.
    let (server, upstream, store) = (reader.server(), reader.upstream(), reader.store());
    let (serving, access, admin, log) = (reader.serving(), reader.access(), reader.admin(), reader.log());
    reader.check_listeners(server.as_ref(), admin.as_ref());
    reader.check_loop(server.as_ref(), upstream.as_ref());
    Some(Config {
        server: server?,
        upstream: upstream?,
        store: store?,
        serving: serving?,
        access: access?,
        admin: admin?,
        log: log?,
    })
}

struct SectionReader<'a> {
    effective: &'a [Effective],
    problems: &'a mut Problems,
}

impl SectionReader<'_> {
    fn server(&mut self) -> Option<server::Settings> {
        let listen = self.read(&keys::SERVER_LISTEN);
        let trusted_proxies = self.read(&keys::SERVER_TRUSTED_PROXIES);
        let max_connections = self.read(&keys::SERVER_MAX_CONNECTIONS);
        let per_address = self.read(&keys::SERVER_MAX_CONNECTIONS_PER_ADDRESS);
        let header_timeout = self.read(&keys::SERVER_HEADER_TIMEOUT);
        let idle_timeout = self.read(&keys::SERVER_IDLE_TIMEOUT);
        let (rate, over) = (self.read(&keys::SERVER_MIN_RATE), self.read(&keys::SERVER_MIN_RATE_FOR));
        let shutdown_delay = self.read(&keys::SERVER_SHUTDOWN_DELAY);
        let (memory, drain) = (self.read(&keys::SERVER_MEMORY), self.read(&keys::SERVER_DRAIN));
        let tls = self.server_tls();
        Some(server::Settings {
            listen: listen?,
            trusted_proxies: trusted_proxies?,
            max_connections: max_connections?,
            max_connections_per_address: per_address?,
            header_timeout: header_timeout?,
            idle_timeout: idle_timeout?,
            least: Least { rate: rate?, over: over? },
            memory: memory?,
            shutdown_delay: shutdown_delay?,
            drain: drain?,
            tls,
        })
    }

    /// `None` as well if something is wrong with it, which then is noted.
    fn server_tls(&mut self) -> Option<server::tls::ServerTls> {
        let cert = self.read(&keys::SERVER_TLS_CERT);
        let key = self.read(&keys::SERVER_TLS_KEY);
        let min_version = self.read(&keys::SERVER_TLS_MIN_VERSION)?;
        let (certs, keys) = (self.count(&keys::SERVER_TLS_CERT.spec), self.count(&keys::SERVER_TLS_KEY.spec));
        match (cert, key) {
            (Some(cert), Some(key)) if certs == keys => {
                let pairs = cert.into_iter().zip(key).map(|(cert, key)| server::tls::Pair { cert, key });
                Some(server::tls::ServerTls { pairs: pairs.collect(), min_version })
            }
            (None, None) if certs.is_none() && keys.is_none() => None,
            (cert, key) => {
                // A value that is wrong by itself has been noted.
                if (cert.is_some() || certs.is_none()) && (key.is_some() || keys.is_none()) {
                    self.note_unpaired(keys.unwrap_or_default(), certs.unwrap_or_default());
                }
                None
            }
        }
    }

    /// How many values a list has; `None` if it is unset.
    fn count(&self, spec: &Spec) -> Option<usize> {
        let found = self.effective.iter().find(|effective| effective.spec.path == spec.path);
        match found.and_then(|effective| effective.value.as_ref()) {
            Some(Ok(Written::List(items))) => Some(items.len()),
            Some(_) => Some(0),
            None => None,
        }
    }

    fn note_unpaired(&mut self, found: usize, others: usize) {
        let (key, other) = (keys::SERVER_TLS_KEY.spec.path, keys::SERVER_TLS_CERT.spec.path);
        self.problems.push(Problem::Unpaired { key, layer: self.layer(key), found, others, other });
    }

    fn upstream(&mut self) -> Option<upstream::Settings> {
        let url = self.read(&keys::UPSTREAM_URL);
        let external_url = self.read(&keys::UPSTREAM_EXTERNAL_URL);
        let ca_file = self.read(&keys::UPSTREAM_CA_FILE);
        let (tls, proxy) = (self.tls(), self.proxy());
        let storage_ca_file = self.read(&keys::STORAGE_CA_FILE);
        let http2 = self.read(&keys::UPSTREAM_HTTP2);
        let storage_hosts = self.read(&keys::UPSTREAM_STORAGE_HOSTS);
        let connect_timeout = self.read(&keys::UPSTREAM_CONNECT_TIMEOUT);
        let read_timeout = self.read(&keys::UPSTREAM_READ_TIMEOUT);
        let answer_timeout = self.read(&keys::UPSTREAM_ANSWER_TIMEOUT);
        let resume_timeout = self.read(&keys::UPSTREAM_RESUME_TIMEOUT);
        let max_connection_age = self.read(&keys::UPSTREAM_MAX_CONNECTION_AGE);
        let retry_store = self.read(&keys::UPSTREAM_RETRY_STORE);
        let max_connections = self.read(&keys::UPSTREAM_MAX_CONNECTIONS);
        Some(upstream::Settings {
            url: url?,
            external_url,
            ca_file,
            tls: tls?,
            storage_ca_file,
            proxy,
            http2: http2?,
            storage_hosts,
            connect_timeout: connect_timeout?,
            read_timeout: read_timeout?,
            answer_timeout: answer_timeout?,
            resume_timeout: resume_timeout?,
            max_connection_age: max_connection_age?,
            retry_store: retry_store?,
            max_connections: max_connections?,
        })
    }

    fn tls(&mut self) -> Option<upstream::TlsSettings> {
        let insecure = self.read(&keys::UPSTREAM_TLS_INSECURE);
        let (cert, key) = (self.read(&keys::UPSTREAM_TLS_CERT), self.read(&keys::UPSTREAM_TLS_KEY));
        Some(upstream::TlsSettings { insecure: insecure?, cert, key })
    }

    fn proxy(&mut self) -> upstream::ProxySettings {
        let url = self.read(&keys::UPSTREAM_PROXY);
        let auth_file = self.read(&keys::UPSTREAM_PROXY_AUTH_FILE);
        let no_proxy = self.read(&keys::UPSTREAM_NO_PROXY).unwrap_or_default();
        upstream::ProxySettings { url, auth_file, no_proxy }
    }

    fn store(&mut self) -> Option<store::Settings> {
        let dir = self.read(&keys::CACHE_DIR);
        let max_size = self.read(&keys::CACHE_MAX_SIZE);
        let max_age = self.read(&keys::CACHE_MAX_AGE);
        let instance = self.read(&keys::CACHE_INSTANCE);
        let read = self.read(&keys::CACHE_READ);
        let scrub = self.read(&keys::CACHE_SCRUB);
        let max_object = self.read(&keys::CACHE_MAX_OBJECT);
        let min_free = self.read(&keys::CACHE_MIN_FREE);
        Some(store::Settings {
            dir: dir?,
            max_size: max_size?,
            max_object,
            min_free: min_free?,
            max_age: max_age?,
            instance,
            read: read?,
            scrub: scrub?,
        })
    }

    fn serving(&mut self) -> Option<proxy::Settings> {
        let on_file = self.read(&keys::CACHE_ON_FILE);
        let gzip = self.read(&keys::CACHE_GZIP);
        let names = self.read(&keys::ACCESS_IGNORE_FIELDS);
        let ignore_fields = Arc::new(Ignored::new(&names?));
        Some(proxy::Settings { on_file: on_file?, gzip: gzip?, ignore_fields })
    }

    fn access(&mut self) -> Option<access::Settings> {
        let ttl = self.read(&keys::ACCESS_TTL);
        let grace = self.read(&keys::ACCESS_GRACE);
        Some(access::Settings { ttl: ttl?, grace: grace? })
    }

    fn admin(&mut self) -> Option<admin::Settings> {
        let listen = self.read(&keys::ADMIN_LISTEN);
        let hosts = self.read(&keys::ADMIN_HOSTS);
        Some(admin::Settings { listen: listen?, hosts: hosts? })
    }

    fn log(&mut self) -> Option<telemetry::log::LogSettings> {
        let format = self.read(&keys::LOG_FORMAT);
        let level = self.read(&keys::LOG_LEVEL);
        Some(telemetry::log::LogSettings { format: format?, level: level? })
    }

    /// The value of `key`; `None` if it is unset or wrong, and what is wrong is noted.
    fn read<T>(&mut self, key: &TypedKey<T>) -> Option<T> {
        let found = self.effective.iter().find(|effective| effective.spec.path == key.spec.path);
        let Some(Effective { layer, value: Some(value), .. }) = found else {
            self.note_missing(key);
            return None;
        };
        match value.clone().and_then(|written| (key.read)(&written)) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.problems.push(Problem::value(&key.spec, layer, wrong.0));
                None
            }
        }
    }

    /// A file that couldn't be read may well hold what seems to be missing.
    fn note_missing<T>(&mut self, key: &TypedKey<T>) {
        let unread =
            |problem: &Problem| matches!(problem, Problem::Unreadable { .. } | Problem::Syntax { .. });
        if !matches!(key.spec.presence, Presence::Optional(_)) && !self.problems.iter().any(unread) {
            self.problems.push(Problem::missing(&key.spec));
        }
    }

    fn check_listeners(&mut self, server: Option<&server::Settings>, admin: Option<&admin::Settings>) {
        if let (Some(server), Some(admin)) = (server, admin)
            && server.listen.iter().filter_map(ListenAddress::tcp).any(|listen| collide(listen, admin.listen))
        {
            self.note_clash(&keys::ADMIN_LISTEN.spec, admin.listen.to_string());
        }
    }

    /// Every request would come back until the connections run out.
    fn check_loop(&mut self, server: Option<&server::Settings>, upstream: Option<&upstream::Settings>) {
        if let (Some(server), Some(upstream)) = (server, upstream)
            && server
                .listen
                .iter()
                .filter_map(ListenAddress::tcp)
                .any(|listen| leads_to(&upstream.url, listen))
        {
            self.note_clash(&keys::UPSTREAM_URL.spec, upstream.url.to_string());
        }
    }

    /// The value of `spec` is where clients connect.
    fn note_clash(&mut self, spec: &Spec, found: String) {
        let other = &keys::SERVER_LISTEN.spec;
        self.problems.push(Problem::Clash {
            key: spec.path,
            layer: self.layer(spec.path),
            found,
            other: other.path,
            other_layer: self.layer(other.path),
        });
    }

    fn layer(&self, path: &str) -> String {
        let found = self.effective.iter().find(|effective| effective.spec.path == path);
        found.map_or_else(String::new, |effective| effective.layer.clone())
    }
}

/// Port 0 is a new port each time; an unspecified address takes the port on all of them.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && overlap
}

/// Whether `url` names the listener itself, as far as that shows without asking DNS.
fn leads_to(url: &Origin, listen: SocketAddr) -> bool {
    let implied = if url.scheme() == &http::uri::Scheme::HTTPS { 443 } else { 80 };
    let host = url.authority().host().trim_matches(['[', ']']);
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if host.eq_ignore_ascii_case("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => return false,
    };
    let reached = ip == listen.ip() || (ip.is_loopback() && listen.ip().is_unspecified());
    reached && url.authority().port_u16().unwrap_or(implied) == listen.port()
}
