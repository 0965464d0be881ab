use weakrest::Result;
#[derive(Debug, clap::Args)]
pub struct Check {}
impl Check { pub fn run(self) -> Result<super::Outcome> { Ok(super::Outcome::Pass) } }
