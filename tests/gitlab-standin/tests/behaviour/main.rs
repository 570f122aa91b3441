//! The stand-in seen through its sockets.

#[cfg(test)]
mod access;
#[cfg(test)]
mod archives;
#[cfg(test)]
mod client;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod entries;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod projects;
#[cfg(test)]
mod refs;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod web;
#[cfg(test)]
mod writes;
