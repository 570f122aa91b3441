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
mod faults;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod projects;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod writes;
