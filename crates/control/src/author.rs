//! Who does something, and when. Every change carries both; nothing in this crate reads a clock.

use meterd_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Actor {
    /// meterd itself: migrations, schedules, the demo.
    System,
    /// Somebody with access to the machine, through the command line.
    Operator,
    /// A caller, by the id of its credential.
    Credential(Uuid),
    /// The resource on whose behalf a caller acts, see [`Credential::principal`](crate::Credential::principal).
    Principal(Uuid),
}

/// One act: who and when. Passed to every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    pub actor: Actor,
    pub at: Timestamp,
}

impl Author {
    pub fn new(actor: Actor, at: Timestamp) -> Self {
        Self { actor, at }
    }

    pub fn system(at: Timestamp) -> Self {
        Self::new(Actor::System, at)
    }
}

/// A text that names no actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an actor")]
pub struct ActorError;

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Operator => f.write_str("operator"),
            Self::Credential(id) => write!(f, "credential:{id}"),
            Self::Principal(id) => write!(f, "principal:{id}"),
        }
    }
}

impl FromStr for Actor {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Self, ActorError> {
        match text.split_once(':') {
            None if text == "system" => Ok(Self::System),
            None if text == "operator" => Ok(Self::Operator),
            Some(("credential", id)) => id.parse().map(Self::Credential).map_err(|_| ActorError),
            Some(("principal", id)) => id.parse().map(Self::Principal).map_err(|_| ActorError),
            _ => Err(ActorError),
        }
    }
}

impl TryFrom<String> for Actor {
    type Error = ActorError;

    fn try_from(text: String) -> Result<Self, ActorError> {
        text.parse()
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> Self {
        actor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_read_back_what_they_write() {
        for actor in [
            Actor::System,
            Actor::Operator,
            Actor::Credential(Uuid::from_u128(7)),
            Actor::Principal(Uuid::from_u128(8)),
        ] {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        for bad in ["", "root", "credential:x", "principal:", "system:1"] {
            assert_eq!(bad.parse::<Actor>(), Err(ActorError), "{bad}");
        }
    }
}
