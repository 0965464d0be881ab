use weakrest::Result;
#[derive(Debug, clap::Args)]
pub struct Package {}
impl Package { pub fn run(self) -> Result<super::Outcome> { Ok(super::Outcome::Pass) } }
