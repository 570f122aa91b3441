//! What a connection is doing: what is asked on it, how far its answer is, and what it will end by.
//!
//! Told by the requests on it, read by its stream and by whoever looks for a connection that may go. Pure but for its lock,
//! which is held for a few instructions: the facts change together and are told as they were together, where several atomics
//! would each need an order of its own. Whoever finds a connection quiet from outside only asks it to leave; its own task looks
//! again.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::Mapped;
use crate::telemetry::metrics::CutLabel;

/// Shared by a connection's stream, the requests on it and the table of quiet connections.
#[derive(Debug, Default)]
pub(super) struct ConnState {
    activity: Mutex<Activity>,
    gave_up: Notify,
}

#[derive(Debug, Default)]
struct Activity {
    /// Requests that have come.
    begun: u64,
    /// Those of them that haven't ended.
    open: u64,
    answer: AnswerState,
    source: Option<Mapped>,
}

/// How far the present answer is, or what the connection ends by, which is never taken back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum AnswerState {
    /// There is none.
    #[default]
    None,
    /// Bytes of it are still to come.
    Midway,
    /// All of it has been taken, and may not have been written yet.
    Taken,
    /// There may be several (HTTP/2): one that breaks off is said to be broken by itself.
    Multiplexed,
    /// It broke off.
    Broken,
    /// The client takes less than it must.
    SlowReader,
    /// A head didn't come in time.
    SlowHead,
}

impl ConnState {
    /// It turned out to carry several answers at once.
    pub(super) fn multiplex(&self) {
        self.activity.lock().answer = AnswerState::Multiplexed;
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        let mut activity = self.activity.lock();
        activity.begun += 1;
        activity.open += 1;
    }

    /// A request's answer has gone, or was given up.
    pub(super) fn end(&self) {
        self.activity.lock().open -= 1;
    }

    /// How many requests have come so far, if none is being answered.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let activity = self.activity.lock();
        (activity.open == 0).then_some(activity.begun)
    }

    /// Whether nothing is being asked or answered. Where answers share a connection the last bytes of one may still be on
    /// their way: there only one that has asked nothing is.
    pub(super) fn is_quiet(&self) -> bool {
        let activity = self.activity.lock();
        activity.open == 0 && (activity.begun == 0 || activity.answer == AnswerState::None)
    }

    /// An answer begins. `source`: the mapping that its bytes lie in, if one; `under_way`: whether bytes are still to come.
    pub(super) fn answers(&self, source: Option<Mapped>, under_way: bool) {
        let mut activity = self.activity.lock();
        activity.source = source;
        if under_way && matches!(activity.answer, AnswerState::None | AnswerState::Taken) {
            activity.answer = AnswerState::Midway;
        }
    }

    /// All of it has been handed on.
    pub(super) fn answered(&self) {
        self.step(AnswerState::Midway, AnswerState::Taken);
    }

    /// What was handed on has been written.
    pub(super) fn flushed(&self) {
        self.step(AnswerState::Taken, AnswerState::None);
    }

    fn step(&self, from: AnswerState, to: AnswerState) {
        let answer = &mut self.activity.lock().answer;
        if *answer == from {
            *answer = to;
        }
    }

    /// An answer breaks off: the connection must be reset, since to an HTTP/1.0 client a close looks like the end.
    pub(super) fn break_off(&self) {
        let answer = &mut self.activity.lock().answer;
        if matches!(answer, AnswerState::None | AnswerState::Midway | AnswerState::Taken) {
            *answer = AnswerState::Broken;
        }
    }

    /// It ends since a head didn't come in time.
    pub(super) fn set_late(&self) {
        self.activity.lock().answer = AnswerState::SlowHead;
    }

    /// Its client takes less than it must: the connection is reset, whatever it carries.
    pub(super) fn give_up(&self) {
        self.activity.lock().answer = AnswerState::SlowReader;
        self.gave_up.notify_one();
    }

    /// Ready once that is so.
    pub(super) async fn is_given_up(&self) {
        self.gave_up.notified().await;
    }

    /// Why it was cut off by us, if it was.
    pub(super) fn cut(&self) -> Option<CutLabel> {
        match self.activity.lock().answer {
            AnswerState::SlowReader => Some(CutLabel::SlowReader),
            AnswerState::SlowHead => Some(CutLabel::SlowHead),
            _ => None,
        }
    }

    /// Whether an answer has broken off, or would if the connection ended now.
    pub(super) fn is_broken(&self) -> bool {
        matches!(
            self.activity.lock().answer,
            AnswerState::Midway | AnswerState::Broken | AnswerState::SlowReader
        )
    }

    /// The same, also of an answer that has been taken but not been written.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_broken() || self.activity.lock().answer == AnswerState::Taken
    }

    /// Where the bytes of the last answer that began lie. Those of one before may still be on their way: whether bytes
    /// lie there is told by their address.
    pub(super) fn source(&self) -> Option<Mapped> {
        self.activity.lock().source.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_unfinished_until_it_has_been_written() {
        let state = ConnState::default();
        state.begin();
        assert!(state.idle_since().is_none() && !state.is_quiet());
        state.answers(None, true);
        assert!(state.is_broken() && state.is_unfinished());
        state.flushed();
        assert!(state.is_broken(), "what was written isn't all");
        state.answered();
        state.end();
        assert!(!state.is_broken() && state.is_unfinished() && !state.is_quiet());
        assert_eq!(state.idle_since(), Some(1));
        state.flushed();
        assert!(!state.is_unfinished() && state.is_quiet());
        state.answers(None, false);
        state.answered();
        assert!(!state.is_unfinished(), "nothing was to come");
    }

    #[test]
    fn what_it_ends_by_stays() {
        let state = ConnState::default();
        state.give_up();
        state.answers(None, true);
        state.answered();
        state.flushed();
        state.break_off();
        assert!(state.is_broken());
        assert_eq!(state.cut(), Some(CutLabel::SlowReader));
    }

    #[test]
    fn where_answers_share_a_connection_none_of_them_breaks_it_and_it_is_quiet_before_the_first_alone() {
        let state = ConnState::default();
        state.multiplex();
        assert!(state.is_quiet());
        state.begin();
        state.answers(None, true);
        state.break_off();
        assert!(!state.is_unfinished());
        state.end();
        assert_eq!((state.idle_since(), state.is_quiet()), (Some(1), false));
        state.give_up();
        assert!(state.is_broken());
    }
}
