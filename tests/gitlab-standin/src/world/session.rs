//! Browser sessions. One begins when a browser is sent to the sign-in page, with nobody in it but a place to go back
//! to, and is replaced at sign-in.

use super::World;
use crate::archive::sha256_hex;
use crate::ids::UserId;

/// How many sessions without a user are kept: a scraper must not fill the memory.
const VISITORS: usize = 1000;

/// What the cookie `_gitlab_session` stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user: Option<UserId>,
    /// Path and query that sign-in leads back to.
    pub(crate) return_to: Option<String>,
}

impl World {
    pub(crate) fn add_session(&mut self, user: UserId) -> String {
        let text = self.session_id();
        self.put_session(&text, user);
        text
    }

    pub(crate) fn put_session(&mut self, text: &str, user: UserId) {
        self.sessions.insert(text.to_owned(), Session { user: Some(user), return_to: None });
    }

    /// A session with nobody in it. When there are too many, all of them are forgotten.
    pub(crate) fn add_visitor(&mut self, return_to: Option<String>) -> String {
        let visitors = self.sessions.values().filter(|session| session.user.is_none()).count();
        if visitors >= VISITORS {
            self.sessions.retain(|_, session| session.user.is_some());
        }
        let text = self.session_id();
        self.sessions.insert(text.clone(), Session { user: None, return_to });
        text
    }

    /// The token that forms of this session carry. Rails masks it anew for each page; what it proves is the same.
    pub(crate) fn csrf_token(&self, session: &str) -> String {
        sha256_hex(format!("{}:csrf:{session}", self.setup.seed).as_bytes())
    }

    fn session_id(&mut self) -> String {
        let text = sha256_hex(self.hex("session").as_bytes());
        text.get(..32).unwrap_or_default().to_owned()
    }
}
