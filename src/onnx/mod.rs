//! ONNX Runtime: finding its library, loading networks, running them.

mod external;
mod network;
mod runtime;

pub use external::refuse_external_data;
pub use network::{Network, Threads};
pub use runtime::{MINIMUM_VERSION, Runtime};
