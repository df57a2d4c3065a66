//! Typed headers: what the extFields of each request and response mean.
//!
//! A field's name on the wire stands beside it. Types follow Java's readers: an integer is decimal with an optional
//! sign, only a case-insensitive "true" is true. Where Java logs a missing required field and fails later on a null,
//! we refuse the header at once and name the field. An empty text in an optional field reads as absent, since C++
//! writes it so. Fields nobody reads (`ns`, `nsd`, `bname`, `oway`, `ReqT`, ACL fields) are left alone.
//!
//! Headers of one kind of work share a file; callers name them without it.

mod admin;
mod client;
mod field;
mod name_server;
mod offset;
mod pop;
mod pull;
mod send;

use super::ExtFields;
pub use admin::*;
pub use client::*;
pub use field::{Boundary, FieldValue};
pub use name_server::*;
pub use offset::*;
pub use pop::*;
pub use pull::*;
pub use send::*;

/// A header that can be read from and written to extFields.
pub trait TypedHeader: Sized {
    /// Reads the header.
    ///
    /// # Errors
    /// [`HeaderError`]: a required field is missing, or one does not parse.
    fn decode(ext: &ExtFields) -> Result<Self, HeaderError>;

    /// Sets the header's fields; absent optional ones are left out.
    fn encode(&self, ext: &mut ExtFields);
}

/// Why a header was refused. Its text is the remark of the SYSTEM_ERROR that answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A required field is not there.
    #[error("the field {field} is missing")]
    Missing {
        /// Its name on the wire.
        field: &'static str,
    },
    /// A field does not parse.
    #[error("the field {field} is not {expected}: {found:?}")]
    Malformed {
        /// Its name on the wire.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is, cut short.
        found: String,
    },
}

impl HeaderError {
    pub(super) fn malformed(field: &'static str, expected: &'static str, found: &str) -> Self {
        Self::Malformed { field, expected, found: found.chars().take(64).collect() }
    }
}

/// Declares header structs with the wire name of each field.
macro_rules! typed_header {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $wire:literal,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::remoting::headers::TypedHeader for $name {
            fn decode(
                ext: &$crate::remoting::ExtFields,
            ) -> Result<Self, $crate::remoting::headers::HeaderError> {
                let _ = ext;
                Ok(Self {
                    $($field: $crate::remoting::headers::FieldValue::read(ext.get($wire), $wire)?,)*
                })
            }

            fn encode(&self, ext: &mut $crate::remoting::ExtFields) {
                let _ = &ext;
                $($crate::remoting::headers::FieldValue::write(&self.$field, $wire, ext);)*
            }
        }
    )*};
}
pub(crate) use typed_header;

#[cfg(test)]
mod tests;
