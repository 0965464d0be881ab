//! ONNX Runtime: its library, its providers, and networks.

mod captured;
mod engines;
mod external;
mod graph;
#[cfg(feature = "workshop")]
mod head;
mod int8;
mod interrupt;
mod message;
mod network;
mod providers;
mod runtime;
#[cfg(test)]
mod tests;
#[cfg(feature = "workshop")]
mod text;

pub(crate) use external::refuse_external_data;
#[cfg(feature = "workshop")]
pub(crate) use head::head_with_weights;
pub(crate) use int8::Int8;
pub use interrupt::Interrupt;
pub(crate) use network::Network;
pub(crate) use network::check_finite;
pub use providers::{Execution, Provider};
pub(crate) use runtime::{MINIMUM_VERSION, Runtime};
#[cfg(feature = "workshop")]
pub(crate) use text::{TextEncoder, check_text};
