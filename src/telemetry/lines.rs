//! A writer that nobody waits for, and that costs a request no system call.
//!
//! Lines are collected in memory and written together, some twenty times a second: a write and a wake-up for each
//! line took half of the hot path's rate.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

use crate::base::num::to_u64;

/// Bytes that wait for a slow reader of the output. Further lines are dropped and counted: a full pipe must not stop
/// downloads.
const WAITING: usize = 4 << 20;

/// How long lines are collected before they are written: short for someone who watches, long for the machine.
const PAUSE: Duration = Duration::from_millis(50);

/// How long after a word about dropped lines the next one comes: whoever reads slowly isn't to read of nothing else.
const NOTICE: Duration = Duration::from_secs(60);

/// How long what waits may take to be written at the end. A reader that has stopped doesn't keep the process from ending.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The writing end, for any number of threads.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<LineQueue>);

/// The thread that writes; dropping it writes what waits.
#[derive(Debug)]
pub(super) struct Worker(Arc<LineQueue>);

#[derive(Debug, Default)]
struct LineQueue {
    waiting: Mutex<Backlog>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Backlog {
    text: Vec<u8>,
    /// Lines dropped so far.
    lost: u64,
    /// Those of which the output says.
    told: u64,
    counter: Option<Counter>,
    closing: bool,
    /// Nothing is written any more.
    ended: bool,
}

impl Backlog {
    fn lose(&mut self, lines: u64) {
        self.lost += lines;
        if let Some(counter) = &self.counter {
            counter.inc_by(lines);
        }
    }
}

impl Lines {
    /// Starts writing to `output`; `notice` is the line that says that so many were dropped.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<(Self, Worker)> {
        let shared = Arc::new(LineQueue::default());
        let theirs = WriterDone(Arc::clone(&shared));
        thread::Builder::new()
            .name("larder-log".to_owned())
            .spawn(move || theirs.0.write_to(output, notice))?;
        Ok((Self(Arc::clone(&shared)), Worker(shared)))
    }

    /// Counts dropped lines there as well, those so far included.
    pub(super) fn count_into(&self, counter: Counter) {
        let mut waiting = self.0.waiting.lock();
        counter.inc_by(waiting.lost);
        waiting.counter = Some(counter);
    }

    /// Takes one line, or counts it as lost.
    fn take(&self, line: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if waiting.text.len() + line.len() > WAITING {
            waiting.lose(1);
            return;
        }
        let first = waiting.text.is_empty();
        waiting.text.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.changed.notify_all();
        }
    }
}

/// Says that nothing is written any more, whatever the reason.
struct WriterDone(Arc<LineQueue>);

impl Drop for WriterDone {
    fn drop(&mut self) {
        self.0.waiting.lock().ended = true;
        self.0.changed.notify_all();
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

impl LineQueue {
    fn write_to(&self, mut output: impl Write, notice: impl Fn(u64) -> String) {
        let (mut text, mut next) = (Vec::new(), Instant::now());
        loop {
            let (dropped, closing) = self.gather(&mut text, next);
            if dropped > 0 {
                // Behind what had its place: the dropped ones came after it.
                text.extend_from_slice(notice(dropped).as_bytes());
                text.push(b'\n');
                next = Instant::now() + NOTICE;
            }
            if output.write_all(&text).and_then(|()| output.flush()).is_err() {
                self.failed(&text, dropped);
            }
            text.clear();
            if closing {
                return;
            }
        }
    }

    /// Waits for text and takes it; also how many dropped lines are to be told of, from `next` on or at the end, and
    /// whether this is the end.
    fn gather(&self, text: &mut Vec<u8>, next: Instant) -> (u64, bool) {
        let mut waiting = self.waiting.lock();
        let idle = |waiting: &mut Backlog| waiting.text.is_empty() && !waiting.closing;
        if waiting.lost > waiting.told {
            let left = next.saturating_duration_since(Instant::now());
            self.changed.wait_while_for(&mut waiting, idle, left);
        } else {
            self.changed.wait_while(&mut waiting, idle);
        }
        self.changed.wait_while_for(&mut waiting, |waiting| !waiting.closing, PAUSE);
        std::mem::swap(text, &mut waiting.text);
        let due = waiting.closing || Instant::now() >= next;
        let dropped = if due { waiting.lost - waiting.told } else { 0 };
        waiting.told += dropped;
        (dropped, waiting.closing)
    }

    /// The output has not taken this: a full disk, or a reader that has gone.
    fn failed(&self, text: &[u8], dropped: u64) {
        let mut waiting = self.waiting.lock();
        waiting.told -= dropped;
        let lines = text.iter().map(|byte| usize::from(*byte == b'\n')).sum();
        waiting.lose(to_u64(lines).saturating_sub(u64::from(dropped > 0)));
    }
}

impl Worker {
    /// Writes what waits and ends, as far as it is read.
    pub(super) fn finish(&self) {
        let mut waiting = self.0.waiting.lock();
        waiting.closing = true;
        self.0.changed.notify_all();
        self.0.changed.wait_while_for(&mut waiting, |waiting| !waiting.ended, LAST_WORDS);
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

    fn notice(lost: u64) -> String {
        format!("{lost} lost")
    }

    /// Lines dropped so far.
    fn lost(worker: &Worker) -> u64 {
        worker.0.waiting.lock().lost
    }

    /// Fills what may wait while a write is held up.
    fn full(lines: &Lines) {
        lines.take(b"held\n");
        while !lines.0.waiting.lock().text.is_empty() {
            thread::yield_now();
        }
        let long = vec![b'x'; WAITING / 2];
        lines.take(&long);
        lines.take(&long);
    }

    #[test]
    fn lines_arrive_in_order_and_those_that_dont_fit_are_counted_and_told_of() {
        let (go, gate) = mpsc::channel();
        let (written, output) = mpsc::channel();
        let (lines, worker) = Lines::start(Gated { go: gate, written }, notice).unwrap();
        full(&lines);
        lines.take(b"one too many\n");
        assert_eq!(lost(&worker), 1);
        let counter = Counter::default();
        lines.count_into(counter.clone());
        lines.take(b"and another one\n");
        assert_eq!((lost(&worker), counter.get()), (2, 2));
        // The reader goes on, and nothing else is logged.
        go.send(()).unwrap();
        assert_eq!(output.recv().unwrap(), b"held\n");
        go.send(()).unwrap();
        let read = output.recv().unwrap();
        assert_eq!(read.len(), WAITING + b"2 lost\n".len());
        assert!(read.ends_with(b"x2 lost\n"));
        // More is lost: it is said at the end, if not before.
        full(&lines);
        lines.take(b"a third one\n");
        drop(go);
        worker.finish();
        let read: Vec<u8> = output.try_iter().flatten().collect();
        assert!(read.ends_with(b"x1 lost\n"));
        assert_eq!((lost(&worker), counter.get()), (3, 3));
    }

    #[test]
    fn a_reader_that_has_stopped_does_not_keep_the_end_waiting() {
        let (go, gate) = mpsc::channel();
        let (written, _output) = mpsc::channel();
        let (lines, worker) = Lines::start(Gated { go: gate, written }, notice).unwrap();
        lines.take(b"nobody reads it\n");
        drop(worker);
        assert!(!lines.0.waiting.lock().ended);
        drop(go);
    }

    #[test]
    fn what_the_output_refuses_is_lost_and_told_of_once_it_takes_something() {
        struct Full(mpsc::Receiver<bool>, mpsc::Sender<Vec<u8>>);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if !self.0.recv().unwrap_or(true) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.1.send(bytes.to_vec()).unwrap();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (takes, gate) = mpsc::channel();
        let (written, output) = mpsc::channel();
        let (lines, worker) = Lines::start(Full(gate, written), notice).unwrap();
        lines.take(b"one\ntwo\n");
        for taken in [false, true] {
            takes.send(taken).unwrap();
        }
        assert_eq!(output.recv().unwrap(), b"2 lost\n");
        assert_eq!(lost(&worker), 2);
    }
}
