//! Log lines on standard error: text for people, JSON for machines, never waited for.

use std::io::{self, IsTerminal};
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::lines::{Lines, Worker};

/// What the operator decides about log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line is written.
    pub format: Format,
    /// The least important lines written.
    pub level: Level,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line of text.
    Text,
    /// One flat JSON object.
    Json,
}

impl Format {
    /// Each format and its name in the configuration.
    pub(crate) const NAMES: &[(&str, Self)] =
        &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];

    fn is_json(self, terminal: bool) -> bool {
        match self {
            Self::Auto => !terminal,
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Importance, from the most to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Something works less well than it should.
    Warn,
    /// What happened; one line a request.
    Info,
    /// Why it happened.
    Debug,
    /// Each step.
    Trace,
}

impl Level {
    /// Each level and its name in the configuration.
    pub(crate) const NAMES: &[(&str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Logging couldn't begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has a subscriber already.
    #[error("log lines already go elsewhere in this process; start logging once")]
    Taken(#[source] tracing_subscriber::util::TryInitError),
    /// The operating system gave no thread.
    #[error("no thread to write log lines; raise the limit on processes")]
    Thread(#[source] io::Error),
}

/// Keeps logging alive; dropping it writes what waits, for as long as that is read.
#[derive(Debug)]
pub(crate) struct LogGuard {
    /// Ends when it is dropped.
    _worker: Worker,
    dial: LogControl,
}

/// Changes the level while lines are written, and says where those that aren't are counted.
#[derive(Debug, Clone)]
pub struct LogControl {
    level: reload::Handle<Targets, Registry>,
    lines: Option<Lines>,
}

impl LogControl {
    /// The least important lines written from now on.
    pub(crate) fn set(&self, level: Level) {
        // It fails without a subscriber, and then there is nothing to set.
        let _ = self.level.reload(targets(level));
    }

    /// Counts there the lines that standard error was too slow for, or refused, those so far included.
    pub(crate) fn count_lost(&self, counter: Counter) {
        if let Some(lines) = &self.lines {
            lines.count_into(counter);
        }
    }
}

impl LogGuard {
    /// What changes the level.
    pub(crate) fn dial(&self) -> LogControl {
        self.dial.clone()
    }
}

/// Sends the whole process's log lines to standard error until the guard is dropped.
pub(crate) fn init(settings: LogSettings) -> Result<LogGuard, Error> {
    let terminal = io::stderr().is_terminal();
    let json = settings.format.is_json(terminal);
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let notice = move |lost| notice(lost, json, SystemTime::now());
    let (lines, worker) = Lines::start(io::stderr(), notice).map_err(Error::Thread)?;
    let (subscriber, mut dial) = subscriber(json, settings.level, colour, lines.clone());
    dial.lines = Some(lines);
    let guard = LogGuard { _worker: worker, dial };
    subscriber.try_init().map_err(Error::Taken)?;
    Ok(guard)
}

fn subscriber<W>(
    json: bool,
    level: Level,
    colour: bool,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, LogControl)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(level));
    let (registry, dial) =
        (tracing_subscriber::registry().with(filter), LogControl { level: handle, lines: None });
    let lines = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(writer);
    if json {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        (Box::new(registry.with(lines)), dial)
    } else {
        (Box::new(registry.with(lines)), dial)
    }
}

/// Our own lines follow the level. Libraries never say more than a warning: below that some print header fields.
fn targets(level: Level) -> Targets {
    let ours = level.filter();
    Targets::new().with_target("larder", ours).with_default(ours.min(LevelFilter::WARN))
}

/// The line about lines that were dropped, as the formatter in use would write it.
fn notice(lost: u64, json: bool, now: SystemTime) -> String {
    let now = humantime::format_rfc3339_micros(now);
    if json {
        format!(
            r#"{{"timestamp":"{now}","level":"WARN","message":"log lines were lost: standard error was too slow","lines":{lost},"target":"larder::telemetry::log"}}"#
        )
    } else {
        format!("{now}  WARN larder::telemetry::log: {lost} log lines were lost: standard error was too slow")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::UNIX_EPOCH;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, level: Level, events: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, _) = subscriber(json, level, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_flat_and_dated_in_utc() {
        let text = logged(true, Level::Info, || {
            let _span = tracing::info_span!("request", id = 1).entered();
            tracing::info!(target: "larder::proxy", outcome = "hit", note = "a\"b\n\u{1b}[0m", "request");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!((&line["outcome"], &line["message"]), (&"hit".into(), &"request".into()));
        assert!(line.get("fields").is_none() && line.get("span").is_none(), "{text}");
        let date = line["timestamp"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(date).is_ok(), "{date}");
    }

    #[test]
    fn text_lines_stay_single_lines_without_colour() {
        let text = logged(false, Level::Info, || tracing::info!(target: "larder", "hello \u{1b}[31m"));
        assert!(text.ends_with('\n') && text.lines().count() == 1 && !text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn libraries_stay_silent_below_a_warning_at_every_level() {
        for (name, level) in Level::NAMES {
            let text = logged(true, *level, || {
                tracing::trace!(target: "hyper::proto", "authorization: secret");
                tracing::debug!(target: "h2::codec", "authorization: secret");
                tracing::info!(target: "rustls::client", "authorization: secret");
                tracing::warn!(target: "sled", "low space");
                tracing::trace!(target: "larder::proxy", "step");
            });
            assert!(!text.contains("secret"), "{name}");
            assert_eq!(text.contains("low space"), *level != Level::Error, "{name}");
            assert_eq!(text.contains("step"), *level == Level::Trace, "{name}");
        }
    }

    #[test]
    fn the_level_can_be_changed_while_lines_are_written() {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, dial) = subscriber(true, Level::Warn, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            for level in [Level::Warn, Level::Debug, Level::Error] {
                dial.set(level);
                tracing::debug!(target: "larder::proxy", "a step at {level:?}");
                tracing::debug!(target: "hyper::proto", "a secret at {level:?}");
            }
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!((text.lines().count(), text.contains("a step at Debug")), (1, true), "{text}");
    }

    #[test]
    fn auto_means_text_on_a_terminal_only() {
        let cases = [
            (Format::Auto, true, false),
            (Format::Auto, false, true),
            (Format::Text, false, false),
            (Format::Json, true, true),
        ];
        for (format, terminal, json) in cases {
            assert_eq!(format.is_json(terminal), json, "{format:?} {terminal}");
        }
    }

    #[test]
    fn lost_lines_are_reported_in_the_format_in_use() {
        let text = notice(3, false, UNIX_EPOCH);
        assert!(text.contains("3 log lines") && text.lines().count() == 1);
        let line: serde_json::Value = serde_json::from_str(&notice(3, true, UNIX_EPOCH)).unwrap();
        assert_eq!((&line["lines"], &line["timestamp"]), (&3.into(), &"1970-01-01T00:00:00.000000Z".into()));
    }
}
