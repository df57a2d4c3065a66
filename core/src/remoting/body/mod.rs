//! The JSON bodies of requests and responses, and the configuration files that share their form.
//!
//! Reading is tolerant as fastjson is: see [`super::json`]; besides, numbers may be texts, enums may be ordinals, unknown
//! members are ignored and a null member is an absent one. Absent members have Java's defaults; a name that gives an
//! object its identity is required, which also refuses fastjson's `{"$ref":"$.path"}` instead of taking it for an empty
//! object. Writing is compact standard JSON with members in Java's order (sorted), but for maps keyed by a queue: their
//! keys are objects, as every Java client was tested with.
//!
//! Fields are public and have the names of Java's beans in our spelling. Sets and maps are sorted, so equal values are
//! equal bytes.

mod admin;
mod assignment;
mod filter;
mod group;
mod ha;
mod heartbeat;
mod lenient;
mod offset;
mod queue;
mod register;
mod route;
mod running_info;
mod topic;

use super::json::{self, JsonError};
pub use admin::*;
pub use assignment::*;
pub use filter::*;
pub use group::*;
pub use ha::*;
pub use heartbeat::*;
pub use offset::*;
pub use queue::*;
pub use register::*;
pub use route::*;
pub use running_info::*;
use serde::de::DeserializeOwned;
pub use topic::*;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is not JSON.
    #[error("the body is no {0}")]
    Json(#[from] JsonError),
    /// It is JSON, but not of this body.
    #[error("the body is no {body}: {reason}")]
    Shape {
        /// Which body was expected.
        body: &'static str,
        /// Which member does not fit, and why.
        reason: String,
    },
    /// It is compressed and does not inflate.
    #[error("the body does not inflate: {reason}")]
    Deflate {
        /// What zlib says.
        reason: String,
    },
    /// It is compressed and inflates to more than a body may have.
    #[error("the body inflates to more than {bytes_max} bytes")]
    InflatesTooFar {
        /// The limit.
        bytes_max: usize,
    },
    /// A part of a compressed registration says that it is longer than what is left, or negative.
    #[error("the {part} of a compressed registration claims {claimed}, {left} bytes are left")]
    Part {
        /// Which part.
        part: &'static str,
        /// What its length or count says.
        claimed: i64,
        /// How many bytes are left.
        left: usize,
    },
    /// A topic of a compressed registration is not `name readQueues writeQueues perm filterType`.
    #[error("a topic of a compressed registration is no name with four settings: {found:?}")]
    TopicLine {
        /// What it is, cut short.
        found: String,
    },
}

/// Reads a body of type `T`.
fn parse<T: DeserializeOwned>(body: &'static str, bytes: &[u8]) -> Result<T, BodyError> {
    let value = json::parse_without_nulls(bytes)?;
    serde_json::from_value(value).map_err(|error| BodyError::Shape { body, reason: error.to_string() })
}

/// Gives body types `parse` and `to_json`.
macro_rules! json_body {
    ($($type:ident),* $(,)?) => {$(
        impl $type {
            /// Reads the body.
            ///
            /// # Errors
            #[doc = "[`BodyError`](super::BodyError): it is not JSON or has not this shape."]
            pub fn parse(bytes: &[u8]) -> Result<Self, super::BodyError> {
                super::parse(stringify!($type), bytes)
            }

            /// Writes the body, compact.
            pub fn to_json(&self) -> Vec<u8> {
                crate::remoting::json::to_standard(self)
            }
        }
    )*};
}
use json_body;

/// Declares an enum that is written by name and read by name or ordinal; what is unknown reads as the default, since
/// fastjson reads it as null.
macro_rules! json_enum {
    ($(#[$doc:meta])* pub enum $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        impl $type {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];

            /// Its name in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let found = super::lenient::text(deserializer)?;
                let by_ordinal = || found.parse().ok().and_then(|ordinal: usize| Self::ALL.get(ordinal));
                let by_name = Self::ALL.iter().find(|(_, name)| *name == found);
                Ok(by_name.or_else(by_ordinal).map(|(value, _)| *value).unwrap_or_default())
            }
        }
    };
}
use json_enum;

#[cfg(test)]
mod tests;
