//! What systemd is told (`sd_notify(3)`): one datagram a message to the socket that the environment names.
//!
//! Of our own, since the protocol is one `sendto`. The crate for it that binds no C library (`sd-notify` 0.5) connects to no
//! abstract socket, waits where systemd's queue is full, on the runtime, and reads the process's own environment, which a
//! test can't set without `unsafe`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whoever started us and wants to be told. Without one nothing is sent.
#[derive(Debug, Default)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reads `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(super) fn from_environment(environment: &[(OsString, OsString)]) -> Self {
        let value = |name: &str| environment.iter().find(|(found, _)| found == name).map(|(_, value)| value);
        let to = value("NOTIFY_SOCKET").and_then(|path| match open(path) {
            Ok(to) => Some(to),
            Err(error) => {
                tracing::warn!(%error, "the socket in NOTIFY_SOCKET can't be used");
                None
            }
        });
        let period = value("WATCHDOG_USEC").and_then(|text| text.to_str()?.parse().ok());
        // Another process's watchdog is none of ours.
        let ours = value("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string().as_str());
        let watchdog = period.filter(|period| *period > 0 && ours).map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// It serves; said again after a reload.
    pub(super) fn ready(&self) {
        self.say("READY=1");
    }

    /// The configuration is read again. The time tells systemd which `READY=1` ends it.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It drains.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Says again and again that it lives, as often as it is asked to twice over; never ends. It is polled by the runtime
    /// that serves: if that hangs, systemd hears nothing.
    pub(super) async fn live(&self) {
        match self.watchdog {
            Some(period) => loop {
                self.say("WATCHDOG=1");
                tokio::time::sleep(period / 2).await;
            },
            None => std::future::pending().await,
        }
    }

    fn say(&self, message: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!(%error, "systemd can't be told");
        }
    }
}

fn open(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A full queue must not stop us.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &OsStr)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect()
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_word_is_one_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::from_environment(&environment(&[("NOTIFY_SOCKET", path.as_os_str())]));
        notify.ready();
        assert_eq!(heard(&socket), "READY=1");
        notify.reloading();
        let said = heard(&socket);
        let since = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(since.parse::<u64>().unwrap() > 0, "{said}");
        notify.stopping();
        assert_eq!(heard(&socket), "STOPPING=1");
    }

    #[test]
    fn an_abstract_socket_is_one_as_well() {
        let name = format!("larder-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let path = OsString::from(format!("@{name}"));
        Notify::from_environment(&environment(&[("NOTIFY_SOCKET", &path)])).ready();
        assert_eq!(heard(&socket), "READY=1");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_twice_a_period() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let pid = OsString::from(std::process::id().to_string());
        for (pid, times) in [(pid.as_os_str(), 4), (OsStr::new("1"), 0)] {
            let pairs = [
                ("NOTIFY_SOCKET", path.as_os_str()),
                ("WATCHDOG_USEC", OsStr::new("10000000")),
                ("WATCHDOG_PID", pid),
            ];
            let notify = Notify::from_environment(&environment(&pairs));
            let elapsed = tokio::time::timeout(Duration::from_secs(16), notify.live()).await;
            assert!(elapsed.is_err());
            for _ in 0..times {
                assert_eq!(heard(&socket), "WATCHDOG=1");
            }
            socket.set_nonblocking(true).unwrap();
            assert!(socket.recv(&mut [0]).is_err());
            socket.set_nonblocking(false).unwrap();
        }
    }

    #[test]
    fn without_a_socket_nothing_happens() {
        Notify::from_environment(&[]).ready();
        Notify::from_environment(&environment(&[("NOTIFY_SOCKET", OsStr::new("/nonexistent/x"))])).ready();
    }
}
