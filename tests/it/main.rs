//! larder as a whole, in this process, before the stand-in for GitLab.

mod archives;
mod support;
