//! A writer that nobody waits for, and that costs a request no system call.
//!
//! Lines are collected in memory and written together, some twenty times a second: a write and a wake-up for each
//! line took half of the hot path's rate.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait for a slow reader of the output. Further lines are dropped and counted: a full pipe must not stop
/// downloads.
const WAITING: usize = 4 << 20;

/// How long lines are collected before they are written: short for someone who watches, long for the machine.
const PAUSE: Duration = Duration::from_millis(50);

/// The writing end, for any number of threads.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Shared>);

/// The thread that writes; dropping it writes what waits.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lost: usize,
    closing: bool,
}

impl Lines {
    /// Starts writing to `output`.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<(Self, Worker)> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("larder-log".to_owned()).spawn(move || theirs.write_to(output))?;
        Ok((Self(Arc::clone(&shared)), Worker { shared, thread: Some(thread) }))
    }

    /// Takes one line, or counts it as lost.
    fn take(&self, line: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if waiting.text.len() + line.len() > WAITING {
            waiting.lost += 1;
            return;
        }
        let first = waiting.text.is_empty();
        waiting.text.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.changed.notify_one();
        }
    }
}

/// One event's line: the formatter writes it in one piece.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Shared {
    fn write_to(&self, mut output: impl Write) {
        let mut text = Vec::new();
        let mut closing = false;
        while !closing {
            let mut waiting = self.waiting.lock();
            self.changed.wait_while(&mut waiting, |waiting| waiting.text.is_empty() && !waiting.closing);
            self.changed.wait_while_for(&mut waiting, |waiting| !waiting.closing, PAUSE);
            closing = waiting.closing;
            std::mem::swap(&mut text, &mut waiting.text);
            drop(waiting);
            // Whoever could be told that the log can't be written would read it there.
            let _ = output.write_all(&text).and_then(|()| output.flush());
            text.clear();
        }
    }
}

impl Worker {
    /// Lines dropped so far.
    pub(super) fn lost(&self) -> usize {
        self.shared.waiting.lock().lost
    }

    /// Writes what waits and ends.
    pub(super) fn finish(&mut self) {
        self.shared.waiting.lock().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its panic would have been printed by itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Blocks each write until it is told to go on, then hands it over.
    struct Gated {
        go: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().ok();
            self.written.send(bytes.to_vec()).ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_in_order_and_those_that_dont_fit_are_counted() {
        let (go, gate) = mpsc::channel();
        let (written, output) = mpsc::channel();
        let (lines, mut worker) = Lines::start(Gated { go: gate, written }).unwrap();
        lines.take(b"first\n");
        go.send(()).unwrap();
        assert_eq!(output.recv().unwrap(), b"first\n");
        let long = vec![b'x'; WAITING / 2];
        lines.take(&long);
        lines.take(&long);
        lines.take(b"one too many\n");
        assert_eq!(worker.lost(), 1);
        drop(go);
        worker.finish();
        assert_eq!(output.iter().flatten().count(), WAITING, "what waited is written at the end");
    }
}
