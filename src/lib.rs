//! larder: a caching reverse proxy that makes GitLab CI job artifacts local.
//!
//! Everything passes through it unchanged. Downloads of job archives come from its own store, once GitLab has said
//! that this caller may have them.
//!
//! # The life of a request
//!
//! ```text
//! server -> proxy -> route (pure) -- not an artifact --------------------------> upstream.pass
//!                      | question
//!                      v
//!            store.find: held? -- no --> fills.join_or_lead: lead (own GET) or follow (own yes)
//!                      | yes               |
//!                      v                   v
//!            access.admit: a grant remembered, or a probe judged by GitLab's answer
//!                      |
//!                      v
//!            yes: slices, for a &Grant that names them | no: GitLab's answer, word for word | other: a new fill
//! ```
//!
//! `server` knows `proxy` as a `Handler` only. `fill` brings bytes to the store by claims on chunks of
//! one object, whether a whole archive is wanted or a range of it, and asks for them through an `ArchiveOrigin`.
//!
//! # The layers
//!
//! A module names only modules that stand on lines below its own; a test reads the tree and holds it to that.
//!
//! ```text
//! cli                                        arguments -> exit status
//! app                                        composition root
//! config                                     file + environment + flags -> one validated value
//! proxy                                      one request as steps
//! fill | entries | server                    bytes of an archive, fetched once for all | single files of it | connections
//! access                                     caller x archive -> Grant; asks GitLab, remembers briefly
//! store | upstream | admin                   files and index | connections to GitLab | the operator's listener
//! gitlab | zip                               pure: questions, facts and verdicts | directories and entries
//! http                                       pure: what travels on, preconditions, ranges, types, kept fields
//! telemetry                                  logs and metrics
//! base                                       clocks, keys, secrets, tasks: the ground
//! ```
//!
//! # Words
//!
//! *Upstream*: GitLab. *Archive*: the zip of a job's artifacts. *Question*: may this caller have that archive, by this
//! route? *Probe*: asking it. *Facts*: by what an archive is recognised. *Grant*: GitLab's yes, naming the archive that
//! it opens. *Epoch*: rises with every invalidation; what began before is void. *Fill*: one transfer from GitLab to the
//! store; its *leader* began it, *followers* joined it. *Partial*: of which only some chunks are here. *Claim*: missing chunks
//! that somebody brings, the one way in which bytes get into an archive. *Record*: what stands beside an archive on disk.
//! *Outcome*: how a request ended.

pub mod access;
pub mod admin;
pub mod app;
pub mod base;
pub mod cli;
pub mod config;
mod entries;
mod fill;
pub mod gitlab;
pub mod http;
pub mod proxy;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod zip;
