//! The program as a user runs it: the real binary, on made-up parts.

#[macro_use]
mod common;
mod bench;
mod chromium;
mod clicks;
mod enroll;
mod evaluate;
mod fleet;
mod halt;
mod head;
mod inspect;
mod install;
mod label;
mod label_import;
mod label_page;
mod package;
mod processors;
mod release;
mod run;
mod runtime;
mod usage;
