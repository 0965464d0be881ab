//! Who may do what: roles, accounts and sessions; and who did what: the audit log.
//!
//! A person signs in with an account and gets a session. A machine sends the token. Each request then acts as
//! a [`Who`] with a [`Role`].

pub(crate) mod accounts;
pub(crate) mod audit;
mod members;
mod sessions;
mod watched;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use audit::Audit;
pub(crate) use members::{Members, Registry};
pub(crate) use sessions::Limits;
pub(crate) use watched::Watched;

/// What somebody may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Look.
    View,
    /// Run the line: trigger, halt, resume, judge parts.
    Operate,
    /// Change what is inspected, and how: reload, teach, threshold, recipes, labels.
    Engineer,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Role; 3] = [Role::View, Role::Operate, Role::Engineer];

    /// The name in files and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Operate => "operate",
            Role::Engineer => "engineer",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who asks for something, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// How they proved who they are.
    pub person: Person,
    /// The address that they asked from.
    pub from: Option<IpAddr>,
}

/// How somebody proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Person {
    /// With the password of this account.
    Account(String),
    /// With the token.
    Token,
    /// By being on this machine, where neither accounts nor a token are set.
    Local,
    /// As a PLC, by its address.
    Plc,
    /// As a client of the MQTT broker.
    Broker,
    /// By the levels of digital lines.
    Lines,
    /// The service itself, as on a reload by the system.
    Service,
}

impl Who {
    /// The service itself.
    pub fn service() -> Who {
        Who { person: Person::Service, from: None }
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Person::Account(name) => write!(f, "account {name}"),
            Person::Token => f.write_str("token"),
            Person::Local => f.write_str("local"),
            Person::Plc => f.write_str("plc"),
            Person::Broker => f.write_str("broker"),
            Person::Lines => f.write_str("lines"),
            Person::Service => f.write_str("service"),
        }
    }
}
