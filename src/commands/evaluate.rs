use weakrest::Result;
#[derive(Debug, clap::Args)]
pub struct Evaluate {}
impl Evaluate { pub fn run(self) -> Result<super::Outcome> { Ok(super::Outcome::Pass) } }
