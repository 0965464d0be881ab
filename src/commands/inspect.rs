use weakrest::Result;
#[derive(Debug, clap::Args)]
pub struct Inspect {}
impl Inspect { pub fn run(self) -> Result<super::Outcome> { Ok(super::Outcome::Pass) } }
