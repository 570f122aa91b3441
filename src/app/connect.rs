//! GitLab, asked once: by which name, whether it is believed, where it leads to, what it is.

use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};

use super::Error;
use crate::config::Config;
use crate::gitlab::urls::Origin;
use crate::http::hop::Hop;
use crate::telemetry::Metrics;
use crate::upstream::{self, Fetched, Upstream};

/// Longest answer that is read: GitLab's has some hundred bytes.
const LONGEST: usize = 64 << 10;

/// Why GitLab can't be used as it was named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No address.
    #[error("upstream.url: the name {host} doesn't resolve: {reason}")]
    Name {
        /// The name.
        host: String,
        /// The system's word.
        reason: std::io::Error,
    },
    /// No answer.
    #[error("upstream.url {url}: {}", .reason.chain())]
    Unreachable {
        /// GitLab's URL.
        url: String,
        /// Why.
        reason: upstream::Error,
    },
    /// It is somewhere else.
    #[error(
        "upstream.url {url}: GitLab redirects to {to}, and so it would every client; set upstream.url to where GitLab is"
    )]
    Elsewhere {
        /// GitLab's URL.
        url: String,
        /// Where it leads, without a query.
        to: String,
    },
    /// Something else answers.
    #[error(
        "upstream.url {url}: {target} is answered by {status}, as GitLab wouldn't; is it GitLab, and its whole relative root?"
    )]
    NotGitLab {
        /// GitLab's URL.
        url: String,
        /// What was asked.
        target: String,
        /// The answer.
        status: StatusCode,
    },
    /// It is GitLab, and out of order.
    #[error("upstream.url {url}: GitLab, or what stands before it, answers {status}")]
    Down {
        /// GitLab's URL.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// It doesn't take the token.
    #[error("--token-file: GitLab refuses this token with {0}")]
    Token(StatusCode),
    /// Nothing could be asked.
    #[error(transparent)]
    Setup(#[from] Box<Error>),
}

/// Asks GitLab which version it is, with a token if there is one, and tells `say` what is found, a sentence each. Blocks.
pub(crate) fn connect(
    config: &Config,
    token: Option<HeaderValue>,
    mut say: impl FnMut(String),
) -> Result<(), ConnectError> {
    let system = |error: std::io::Error| Box::new(Error::from(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    runtime.block_on(ask(config, token, &mut say))
}

async fn ask(
    config: &Config,
    token: Option<HeaderValue>,
    say: &mut impl FnMut(String),
) -> Result<(), ConnectError> {
    let settings = config.upstream.clone();
    let url = settings.url.clone();
    // Behind a proxy names are the proxy's affair.
    if settings.proxy.url.is_none() {
        say(format!("{} is {}", url.authority(), resolve(&url).await?));
    }
    let insecure = settings.tls.insecure;
    let upstream = Upstream::new(settings, &Metrics::default(), Hop::new("check"));
    let upstream = upstream.map_err(|error| Box::new(Error::from(error)))?;
    let target = format!("{}/api/v4/version", url.root());
    let asked: PathAndQuery = target.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"));
    let with_token = token.is_some();
    let answer = upstream.ask(&asked, token).await;
    let answer = answer.map_err(|reason| ConnectError::Unreachable { url: url.to_string(), reason })?;
    if *url.scheme() == http::uri::Scheme::HTTPS {
        let how = if insecure { "isn't checked (upstream.tls.insecure)" } else { "is trusted" };
        say(format!("its certificate {how}"));
    }
    judge(&url, &target, with_token, answer, say).await
}

async fn resolve(url: &Origin) -> Result<String, ConnectError> {
    let authority = url.authority();
    let host = authority.host().trim_matches(['[', ']']);
    let port = crate::gitlab::urls::port(url.scheme(), authority);
    let fail = |reason| ConnectError::Name { host: host.to_owned(), reason };
    let found = tokio::net::lookup_host((host, port)).await.map_err(fail)?;
    let mut found: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    found.dedup();
    Ok(found.join(", "))
}

async fn judge(
    url: &Origin,
    target: &str,
    with_token: bool,
    answer: Response<Fetched>,
    say: &mut impl FnMut(String),
) -> Result<(), ConnectError> {
    let status = answer.status();
    let address = url.to_string();
    if status.is_redirection() {
        let to = upstream::leads_to(url, answer.headers()).unwrap_or_else(|| "nowhere".to_owned());
        return Err(ConnectError::Elsewhere { url: address, to });
    }
    let json = answer.headers().get(header::CONTENT_TYPE).is_some_and(is_json);
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok().filter(|_| json);
    let version = said.as_ref().and_then(|said| said["version"].as_str()).map(plain);
    match (status, said.is_some(), version) {
        (StatusCode::OK, _, Some(version)) => {
            say(format!("GitLab {version} answers"));
            if with_token {
                say("it takes the token".to_owned());
            }
            Ok(())
        }
        (StatusCode::UNAUTHORIZED, true, _) if !with_token => {
            say("GitLab answers; its version it tells to a token alone (--token-file)".to_owned());
            Ok(())
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, true, _) if with_token => {
            Err(ConnectError::Token(status))
        }
        _ if status.is_server_error() => Err(ConnectError::Down { url: address, status }),
        _ => Err(ConnectError::NotGitLab { url: address, target: target.to_owned(), status }),
    }
}

fn is_json(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| value.to_ascii_lowercase().starts_with("application/json"))
}

/// As much of a version as a terminal may be shown.
fn plain(version: &str) -> String {
    version.chars().filter(|c| c.is_ascii_alphanumeric() || ".-+_".contains(*c)).take(64).collect()
}
