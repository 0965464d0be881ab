//! `weakrest check`

use std::path::PathBuf;

use clap::Args;
use weakrest::onnx::{MINIMUM_VERSION, Network, Runtime};
use weakrest::package::Backbone;
use weakrest::{Package, Result};

use super::{Outcome, RuntimeArguments, inspector};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Check this package too
    package: Option<PathBuf>,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

impl Check {
    pub fn run(self) -> Result<Outcome> {
        let options = self.runtime.options();
        say!("weakrest       {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        say!("threads        {} of {cores}", options.execution.threads.map_or(cores, |n| n.get()))?;
        let runtime = Runtime::load(options.onnxruntime.as_deref())?;
        say!("ONNX Runtime   {} ({MINIMUM_VERSION} or newer needed)", runtime.path().display())?;
        say!("               {}", runtime.build_info())?;
        let backbone = Backbone::built_in()?;
        let side = backbone.manifest.multiple as usize * 4;
        let mut network = Network::from_bytes(runtime, &backbone.onnx, &options.execution)?;
        let shape = network.run(&ndarray::Array4::zeros((1, 3, side, side)), |out| Ok(out.dim()))?;
        say!("backbone       {} runs ({} channels)", backbone.manifest.name, shape.1)?;
        if let Some(path) = &self.package {
            let package = Package::open(path)?;
            let product = package.manifest.product.clone();
            inspector(path, package, &options)?;
            say!("package        {} ({product}) is intact and gets its golden scores", path.display())?;
        }
        say!("all is well")?;
        Ok(Outcome::Pass)
    }
}
