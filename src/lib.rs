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
//! # The layers
//!
//! A module names only modules that stand on lines below its own; a test reads the tree and holds it to that.
//!
//! ```text
//! cli                                                  arguments -> exit status
//! app                                                  composition root
//! config                                               file + environment + flags -> one validated value
//! server                                               connections: accept, limit, drain
//! proxy                                                one request as steps
//! fill | entries                                       one transfer an archive, followed while it grows | single files
//! access                                               caller x archive -> Grant; asks GitLab, remembers briefly
//! store | upstream | archive | admin                   files and index | GitLab | zip | the operator's listener
//! conditional                                          pure: preconditions
//! grant | fields                                       pure: facts and verdicts | kept fields
//! route | hop | range | content | origin               pure: what is asked | what travels on | byte ranges | types | URLs
//! telemetry | key | clock | pace | secret | rt         the ground
//! num                                                  lengths in memory and in files
//! ```
//!
//! # Words
//!
//! *Upstream*: GitLab. *Archive*: the zip of a job's artifacts. *Question*: may this caller have that archive, by this
//! route? *Probe*: asking it. *Facts*: by what an archive is recognised. *Grant*: GitLab's yes, naming the archive that
//! it opens. *Epoch*: rises with every invalidation; what began before is void. *Fill*: one transfer from GitLab to the
//! store; its *leader* began it, *followers* joined it. *Draft*: an archive that is arriving. *Sparse*: of which only some
//! chunks are here. *Claim*: missing chunks that somebody fetches. *Record*: what stands beside an archive on disk.
//! *Outcome*: how a request ended.

pub mod access;
pub mod admin;
pub mod app;
pub mod archive;
pub mod cli;
pub mod clock;
pub mod conditional;
pub mod config;
pub mod content;
pub mod entries;
pub mod fields;
pub mod fill;
pub mod grant;
pub mod hop;
pub mod key;
pub mod num;
pub mod origin;
pub mod pace;
pub mod proxy;
pub mod range;
pub mod route;
pub mod rt;
pub mod secret;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upstream;
