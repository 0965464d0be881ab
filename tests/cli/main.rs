//! The program as a user runs it: the real binary, on made-up parts.

#[macro_use]
mod common;
mod account;
mod audit;
mod bench;
#[cfg(feature = "workshop")]
mod chromium;
#[cfg(feature = "workshop")]
mod clicks;
mod enroll;
#[cfg(feature = "workshop")]
mod evaluate;
mod examples;
mod fleet;
mod gpu;
mod halt;
mod head;
mod inspect;
mod install;
mod judge;
#[cfg(feature = "workshop")]
mod label;
#[cfg(feature = "workshop")]
mod label_import;
#[cfg(feature = "workshop")]
mod label_page;
mod modbus;
mod openapi;
mod package;
mod processors;
mod recipes;
mod release;
mod run;
mod runtime;
mod teach;
#[cfg(feature = "workshop")]
mod texts;
#[cfg(feature = "workshop")]
mod train;
mod usage;
#[cfg(feature = "workshop")]
mod web_page;
mod webgpu;
#[cfg(not(feature = "workshop"))]
mod workshop;
mod written;
