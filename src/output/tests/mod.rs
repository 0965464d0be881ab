//! What outputs leave on a disk and tell a broker, whatever happens to either.

pub mod common;
mod journal;
mod mqtt;
mod numbers;
mod pictures;
