use weakrest::Result;
#[derive(Debug, clap::Args)]
pub struct Bench {}
impl Bench { pub fn run(self) -> Result<super::Outcome> { Ok(super::Outcome::Pass) } }
