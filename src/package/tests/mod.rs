//! Packages: what is opened, what is refused, and what writing leaves behind.

mod bank_file;
mod refused;
mod support;
mod written;
