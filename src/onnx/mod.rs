//! ONNX Runtime: finding its library, loading networks, running them.

mod external;
mod interrupt;
mod network;
mod providers;
mod runtime;
#[cfg(test)]
mod tests;
#[cfg(feature = "workshop")]
mod text;

pub use external::refuse_external_data;
pub use interrupt::Interrupt;
pub use network::Network;
pub(crate) use network::check_finite;
pub use providers::{Execution, Provider};
pub use runtime::{MINIMUM_VERSION, Runtime};
#[cfg(feature = "workshop")]
pub use text::{TextEncoder, check_text};
