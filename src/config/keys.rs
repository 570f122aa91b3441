//! The one table of keys: parser, defaults, flags, help, `larder check`, the example file and the README all read it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::read::{self, Written, Wrong};
use super::spec::{PathKind, Presence, Shape, Spec, key};
use crate::gitlab::urls::Origin;
use crate::proxy::{GzipFor, OnFile};
use crate::server::{ListenAddress, tls};
use crate::store::{Budget, ReadMode, TimeShare};
use crate::telemetry::log::{Format, Level};
use crate::upstream::Http2;

/// A key and the type its value becomes.
pub(super) struct TypedKey<T: 'static> {
    pub(super) spec: Spec,
    pub(super) read: fn(&Written) -> Result<T, Wrong>,
}

/// Declares each key as a static of its type, and [`KEYS`] as the list of them all, so that none can be forgotten.
macro_rules! keys {
    ($($name:ident: $type:ty = $read:expr, $spec:expr;)*) => {
        $(pub(super) static $name: TypedKey<$type> = TypedKey { spec: $spec, read: $read };)*

        /// Every key, in the order of the example file.
        pub static KEYS: &[&Spec] = &[$(&$name.spec),*];
    };
}

use Presence::{Default, Optional, Required};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Ten years: longer than any CI artifact is of use, and far from where clock arithmetic ends.
const AGE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// One fill reserves in steps of this size: a smaller budget could never hold anything.
const LEAST_CACHE: u64 = 64 << 20;
/// Less couldn't hold the directory of an archive with some thousand files beside the streams of a few clients.
const LEAST_MEMORY: u64 = 16 << 20;
/// Beyond any file system, and far from where byte arithmetic ends.
const MOST_CACHE: u64 = 1 << 60;

const ADDRESS: &str = "an IP address and a port such as \"127.0.0.1:8080\"";
const LISTEN: &str = "an IP address and a port such as \"127.0.0.1:8080\", \"plain:127.0.0.1:8080\" or \"unix:/run/larder.sock\"";
const FILES: &str = "the path of a PEM file or a list of them";
const TIMEOUT: &str = "a duration from 1ms to 24h such as \"30s\"";
const SPAN: &str = "a duration from 0s to 24h such as \"30s\"";

keys! {
    SERVER_LISTEN: Vec<ListenAddress> = read::listeners,
        key("server.listen", Default("127.0.0.1:8080"), LISTEN,
            "Where clients connect: one place or a list. With certificates TCP speaks TLS, but for plain:IP:PORT; unix:/path is plain, mode 0660.",
        ).shaped(Shape::OneOrMore).flag("listen", "ADDRESS");
    SERVER_TRUSTED_PROXIES: Vec<IpNet> = read::networks,
        key("server.trusted_proxies", Default(""), "a list of networks such as [\"10.0.0.0/8\", \"192.0.2.7\"]",
            "Peers whose X-Forwarded-For is believed.").shaped(Shape::List).reloads();
    SERVER_MAX_CONNECTIONS: usize = |raw| read::count(raw, 1..=1_000_000),
        key("server.max_connections", Default("10000"), "a whole number from 1 to 1000000",
            "Connections held at once; one on which nothing is being asked makes room for the next, else that waits.").shaped(Shape::Number).reloads();
    // Half of what all may have: a gateway's clients share an address, and none may keep the others out.
    SERVER_MAX_CONNECTIONS_PER_ADDRESS: usize = |raw| read::count(raw, 0..=1_000_000),
        key("server.max_connections_per_address", Default("5000"), "a whole number up to 1000000",
            "Connections held at once from one address (of IPv6: from one /64), trusted proxies aside; 0: no limit but that of all.",
        ).shaped(Shape::Number).reloads();
    SERVER_HEADER_TIMEOUT: Duration = |raw| read::duration(raw, MILLISECOND..=DAY),
        key("server.header_timeout", Default("30s"), TIMEOUT,
            "Longest wait for a request's head.").reloads();
    // Load balancers keep theirs for 60 s: whoever reuses a connection must not find it closed.
    SERVER_IDLE_TIMEOUT: Duration = |raw| read::duration(raw, MILLISECOND..=DAY),
        key("server.idle_timeout", Default("75s"), TIMEOUT,
            "How long a connection on which something was asked is kept for the next request; longer than what is before larder keeps its own.").reloads();
    // Slower than any line that is of use for archives; enough to tell a reader from one that holds a place.
    SERVER_MIN_RATE: u64 = |raw| read::size(raw, 0..=MOST_CACHE),
        key("server.min_rate", Default("1KiB"), "a size up to 1048576TiB such as \"1KiB\", meant a second",
            "The slowest that a client may take an answer or send a body, bytes a second of the time that it is waited for; 0: nobody is too slow.").reloads();
    SERVER_MIN_RATE_FOR: Duration = |raw| read::duration(raw, MILLISECOND..=DAY),
        key("server.min_rate_for", Default("60s"), TIMEOUT, "How long a client may be slower than server.min_rate.").reloads();
    // A thousand streams that unpack a large file and aren't read hold 80 MiB; half is what one address may have.
    SERVER_MEMORY: u64 = |raw| read::size(raw, LEAST_MEMORY..=MOST_CACHE),
        key("server.memory", Default("256MiB"), "a size from 16MiB to 1048576TiB such as \"256MiB\"",
            "Memory that answers under way may hold beside what larder needs without any; who finds no room for 10s gets 503.");
    SERVER_SHUTDOWN_DELAY: Duration = |raw| read::duration(raw, Duration::ZERO..=DAY),
        key("server.shutdown_delay", Default("0s"), SPAN,
            "How long larder goes on serving after SIGTERM while /readyz says 503, before the drain: as long as load balancers take to look elsewhere.").reloads();
    SERVER_DRAIN: Duration = |raw| read::duration(raw, Duration::ZERO..=DAY),
        key("server.drain", Default("30s"), SPAN, "How long larder goes on after SIGTERM at most; requests that run may take all of it but a tenth, or 2s.").reloads();

    SERVER_TLS_CERT: Vec<PathBuf> = read::paths,
        key("server.tls.cert", Optional("/etc/larder/tls.pem"), FILES,
            "Certificates shown to clients, each with its chain; the first to those that ask for no other's name. With one TCP listeners speak TLS.",
        ).shaped(Shape::OneOrMore).reloads().names(PathKind::File);
    SERVER_TLS_KEY: Vec<PathBuf> = read::paths,
        key("server.tls.key", Optional("/etc/larder/tls.key"), FILES,
            "The private keys of server.tls.cert, in the same order, without a passphrase.").shaped(Shape::OneOrMore).reloads().names(PathKind::File);
    SERVER_TLS_MIN_VERSION: tls::Version = |raw| read::choice(raw, tls::Version::NAMES),
        key("server.tls.min_version", Default("1.2"), "\"1.2\" or \"1.3\"", "The oldest version of TLS spoken with clients.").reloads();

    UPSTREAM_URL: Origin = read::origin,
        key("upstream.url", Required("https://gitlab.example.com"),
            "GitLab's URL such as \"https://gitlab.example.com\" or \"https://example.com/gitlab\", without user name, password, query or fragment",
            "GitLab's base URL; a path is its relative root.").flag("upstream", "URL");
    UPSTREAM_EXTERNAL_URL: Origin = read::origin,
        key("upstream.external_url", Optional("https://gitlab.example.com"),
            "GitLab's external_url such as \"https://gitlab.example.com\", without user name, password, query or fragment",
            "GitLab's own external_url, where upstream.url is another way to it: in answers it becomes larder's name as well.");
    UPSTREAM_CA_FILE: PathBuf = read::path,
        key("upstream.ca_file", Optional("/etc/larder/ca.pem"), "the path of a PEM file",
            "Certificates trusted besides the system's.").flag("ca-file", "FILE").names(PathKind::File).reloads();
    UPSTREAM_TLS_INSECURE: bool = |raw| read::choice(raw, &[("false", false), ("true", true)]),
        key("upstream.tls.insecure", Default("false"), "\"true\" or \"false\"",
            "Take any certificate for GitLab's: for a test, never for credentials that matter. Each start warns of it.");
    UPSTREAM_TLS_CERT: PathBuf = read::path,
        key("upstream.tls.cert", Optional("/etc/larder/client.pem"), "the path of a PEM file, together with upstream.tls.key",
            "The certificate, with its chain, that larder shows GitLab.").names(PathKind::File).reloads();
    UPSTREAM_TLS_KEY: PathBuf = read::path,
        key("upstream.tls.key", Optional("/etc/larder/client.key"), "the path of a PEM file, together with upstream.tls.cert",
            "The key of upstream.tls.cert.").names(PathKind::File).reloads();
    UPSTREAM_HTTP2: Http2 = |raw| read::choice(raw,
            &[("auto", Http2::Auto), ("off", Http2::Off), ("prior-knowledge", Http2::PriorKnowledge)]),
        key("upstream.http2", Default("auto"), "\"auto\", \"off\" or \"prior-knowledge\"",
            "HTTP/2 to GitLab; auto: where https offers it, for small requests and gRPC; prior-knowledge: without asking, for all but upgrades.");
    UPSTREAM_PROXY: Origin = read::proxy,
        key("upstream.proxy", Optional("http://proxy.example.com:3128"),
            "a URL such as \"http://proxy.example.com:3128\" without user name, password or path",
            "An HTTP proxy (CONNECT) on the way to GitLab and the object store; unset: HTTPS_PROXY. This machine is reached without.");
    UPSTREAM_PROXY_AUTH_FILE: PathBuf = read::path,
        key("upstream.proxy_auth_file", Optional("/etc/larder/proxy-auth"), "the path of a file with user:password, together with upstream.proxy",
            "Credentials for the proxy, user:password on one line.").names(PathKind::File);
    UPSTREAM_NO_PROXY: Vec<String> = read::exceptions,
        key("upstream.no_proxy", Optional("internal.example.com, 10.0.0.0/8"),
            "a list of hosts, domains and networks such as [\"internal.example.com\", \"10.0.0.0/8\"]",
            "Hosts, domains and networks reached without the proxy; unset: NO_PROXY.",
        ).shaped(Shape::List);
    UPSTREAM_STORAGE_HOSTS: Vec<String> = read::storage_hosts,
        key("upstream.storage_hosts", Optional("storage.example.com, 192.0.2.7:9000"),
            "a list of hosts such as [\"storage.example.com\", \"192.0.2.7:9000\"]",
            "Object stores that redirects may lead to, signed or not; unset: any, where the URL is signed and the address isn't special.",
        ).shaped(Shape::List);
    UPSTREAM_CONNECT_TIMEOUT: Duration = |raw| read::duration(raw, MILLISECOND..=DAY),
        key("upstream.connect_timeout", Default("10s"), TIMEOUT, "Longest wait for a connection, TLS included.");
    // GitLab's own nginx waits an hour (proxy_read_timeout 3600): less would break what works without larder.
    UPSTREAM_READ_TIMEOUT: Duration = |raw| read::duration(raw, MILLISECOND..=DAY),
        key("upstream.read_timeout", Default("1h"), TIMEOUT, "Longest silence while an answer is passed through.");
    UPSTREAM_ANSWER_TIMEOUT: Duration = |raw| read::duration(raw, MILLISECOND..=DAY),
        key("upstream.answer_timeout", Default("60s"), TIMEOUT,
            "Longest wait for the head of an answer to a question larder asks itself, its connection included.");
    UPSTREAM_RESUME_TIMEOUT: Duration = |raw| read::duration(raw, Duration::ZERO..=DAY),
        key("upstream.resume_timeout", Default("60s"), SPAN,
            "How long a transfer that broke off is tried again without a byte of progress; 0s doesn't try.");
    UPSTREAM_MAX_CONNECTION_AGE: Duration = |raw| read::duration(raw, SECOND..=DAY),
        key("upstream.max_connection_age", Default("10m"), "a duration from 1s to 24h such as \"10m\"",
            "How long a kept connection takes further requests: so long after a name has come to lead elsewhere larder follows it.");
    UPSTREAM_RETRY_STORE: Duration = |raw| read::duration(raw, Duration::ZERO..=DAY),
        key("upstream.retry_store", Default("30s"), SPAN,
            "How long an object store that can't be reached, is silent or refuses is left alone: clients are sent there themselves; 0s asks it each time.");
    // Far more than GitLab's nginx and Workhorse have work for at once, far less than would exhaust their descriptors.
    UPSTREAM_MAX_CONNECTIONS: usize = |raw| read::count(raw, 1..=1_000_000),
        key("upstream.max_connections", Default("4096"), "a whole number from 1 to 1000000",
            "Requests under way to GitLab at once, of one address 15 in 16 at most; as many more wait in turn for up to connect_timeout. Runners that wait for a job, calls of gRPC and transfers from the object store count apart.",
        ).shaped(Shape::Number);

    STORAGE_CA_FILE: PathBuf = read::path,
        key("storage.ca_file", Optional("/etc/larder/storage-ca.pem"), "the path of a PEM file",
            "Certificates trusted for the object store alone, besides the system's and upstream.ca_file.").names(PathKind::File).reloads();

    CACHE_DIR: PathBuf = read::path,
        key("cache.dir", Default("/var/cache/larder"), "the path of a directory",
            "The cache directory; one process owns it.").flag("cache-dir", "DIR").names(PathKind::Directory);
    CACHE_MAX_SIZE: Budget = |raw| read::budget(raw, LEAST_CACHE..=MOST_CACHE),
        key("cache.max_size", Default("80%"), "a size from 64MiB to 1048576TiB such as \"20GiB\" or \"500GB\", or a percentage from \"1%\" to \"100%\"",
            "Budget for everything in the cache directory: a size, or a share of the whole file system that it is on. A disk that is full before that evicts as well.").flag("cache-size", "SIZE");
    CACHE_MAX_OBJECT: u64 = |raw| read::size(raw, 1..=MOST_CACHE),
        key("cache.max_object", Optional("10GiB"), "a size from 1 to 1048576TiB such as \"10GiB\"",
            "Longest archive that is stored; unset: any that fits cache.max_size.");
    CACHE_MIN_FREE: u64 = |raw| read::size(raw, 0..=MOST_CACHE),
        key("cache.min_free", Default("0"), "a size up to 1048576TiB such as \"1GiB\"",
            "What must stay free on the cache directory's file system, at the cost of what was used least recently.");
    CACHE_MAX_AGE: Duration = |raw| read::duration(raw, SECOND..=AGE),
        key("cache.max_age", Default("30d"), "a duration from 1s to 3650d such as \"30d\"",
            "Longest life of an archive since it was filled.");
    CACHE_INSTANCE: String = read::instance,
        key("cache.instance", Optional("gitlab"),
            "1 to 64 of the characters a-z, 0-9, \".\", \"_\" and \"-\", the first one no dot",
            "Name of the GitLab instance in keys and paths; unset: derived from upstream.url.");
    CACHE_READ: ReadMode = |raw| read::choice(raw, &[("mapped", ReadMode::Mapped), ("pread", ReadMode::Pread)]),
        key("cache.read", Default("mapped"), "\"mapped\" or \"pread\"",
            "How bytes get from a file to a plain socket; pread where the directory is a network mount.");
    // Of a disk that reads 500 MB/s that is 25 MB/s: a full 20 GiB in a quarter of an hour, once a week.
    CACHE_SCRUB: TimeShare = read::share,
        key("cache.scrub", Default("5%"), "a percentage from \"0%\" to \"100%\" such as \"5%\"",
            "Share of the disk's time in which stored archives are read again and compared, once a week each; 0% never does.");
    CACHE_ON_FILE: OnFile = |raw| read::choice(raw, &[("archive", OnFile::Archive), ("pass", OnFile::Pass)]),
        key("cache.on_file", Default("archive"), "\"archive\" or \"pass\"",
            "When one file of an archive that isn't held is asked for: fetch the archive beside GitLab's answer, or only pass that on.");
    CACHE_GZIP: GzipFor = |raw| read::choice(raw,
            &[("text", GzipFor::Text), ("all", GzipFor::All), ("off", GzipFor::Off)]),
        key("cache.gzip", Default("text"), "\"text\", \"all\" or \"off\"",
            "Which files go out as gzip, as they lie in the archive, to clients that take it; text: the types that GitLab's nginx compresses.");

    ACCESS_TTL: Duration = |raw| read::duration(raw, Duration::ZERO..=DAY),
        key("access.ttl", Default("30s"), SPAN,
            "How long GitLab's yes may be remembered; 0s asks GitLab for every request.").flag("ttl", "DURATION").reloads();
    ACCESS_GRACE: Duration = |raw| read::duration(raw, Duration::ZERO..=DAY),
        key("access.grace", Default("0s"), SPAN,
            "How long a caller's last yes counts while GitLab is down; 0s refuses.").reloads();

    ACCESS_IGNORE_FIELDS: Vec<HeaderName> = read::ignorable,
        key("access.ignore_fields", Default(""),
            "a list of field names such as [\"X-Edge-Request-Number\"], none that passes a credential or says which way a request came",
            "Fields that change with each request and don't matter to GitLab's answers: questions go without them. Those that tracing and well-known fronts add are left out anyway.",
        ).shaped(Shape::List);

    ADMIN_LISTEN: SocketAddr = read::address,
        key("admin.listen", Default("127.0.0.1:9090"), ADDRESS, "Where health, metrics and the admin API answer.")
            .flag("admin-listen", "ADDRESS");
    ADMIN_HOSTS: Vec<String> = read::names,
        key("admin.hosts", Default(""), "a list of host names without ports such as [\"larder.example.com\"]",
            "Names by which the admin listener may be addressed, besides IP literals and localhost.",
        ).shaped(Shape::List);

    LOG_FORMAT: Format = |raw| read::choice(raw, Format::NAMES),
        key("log.format", Default("auto"), "\"auto\", \"text\" or \"json\"",
            "How lines are written; auto: text on a terminal, JSON otherwise.").flag("log-format", "FORMAT");
    LOG_LEVEL: Level = |raw| read::choice(raw, Level::NAMES),
        key("log.level", Default("info"), "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            "The least important lines written.").flag("log-level", "LEVEL").reloads();
}

/// The key named `path`.
pub(super) fn find(path: &str) -> Option<&'static Spec> {
    KEYS.iter().copied().find(|spec| spec.path == path)
}
