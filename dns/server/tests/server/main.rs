//! The server over real sockets, by packets that no client library would send.

mod balancers;
mod clients;
mod forward;
mod hostile;
mod peer;
mod resolved;
mod rfc8906;
mod tcp;
mod wire;
