//! Credentials that GitLab hands out.

use super::World;
use crate::ids::UserId;

/// What a personal or OAuth token may do (`lib/gitlab/auth.rb`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `api`: everything its user may.
    Api,
    /// `read_api`: GET and HEAD.
    ReadApi,
    /// `api` and `sudo`: an admin's token may act as anyone.
    Sudo,
    /// None of these: good for nothing on the API.
    None,
}

/// A personal access token or an OAuth token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) user: UserId,
    pub(crate) scope: Scope,
    pub(crate) oauth: bool,
    pub(crate) revoked: bool,
}

impl World {
    pub(crate) fn add_token(&mut self, user: UserId, scope: Scope, oauth: bool) -> String {
        let random = self.hex("token");
        let text = if oauth { random } else { format!("glpat-{}", random.get(..20).unwrap_or_default()) };
        self.put_token(&text, user, scope, oauth);
        text
    }

    pub(crate) fn put_token(&mut self, text: &str, user: UserId, scope: Scope, oauth: bool) {
        self.tokens.insert(text.to_owned(), Token { user, scope, oauth, revoked: false });
    }

    /// Ends a credential of any kind.
    pub(crate) fn revoke(&mut self, text: &str) {
        if let Some(token) = self.tokens.get_mut(text) {
            token.revoked = true;
        }
        self.sessions.remove(text);
        self.job_tokens.remove(text);
    }
}
