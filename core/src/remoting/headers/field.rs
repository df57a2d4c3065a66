//! How one field is read and written.

use super::HeaderError;
use crate::remoting::ExtFields;

/// A type a header field may have.
pub trait FieldValue: Sized {
    /// Reads the value of `field`, None when it is not there.
    ///
    /// # Errors
    /// [`HeaderError`]: it is required and missing, or it does not parse.
    fn read(value: Option<&str>, field: &'static str) -> Result<Self, HeaderError>;

    /// Writes it.
    fn write(&self, field: &'static str, ext: &mut ExtFields);
}

impl FieldValue for String {
    fn read(value: Option<&str>, field: &'static str) -> Result<Self, HeaderError> {
        value.map(str::to_owned).ok_or(HeaderError::Missing { field })
    }

    fn write(&self, field: &'static str, ext: &mut ExtFields) {
        ext.set_str(field, self);
    }
}

macro_rules! integer_field {
    ($type:ty, $expected:literal) => {
        impl FieldValue for $type {
            fn read(value: Option<&str>, field: &'static str) -> Result<Self, HeaderError> {
                let value = value.ok_or(HeaderError::Missing { field })?;
                value.parse().map_err(|_| HeaderError::malformed(field, $expected, value))
            }

            fn write(&self, field: &'static str, ext: &mut ExtFields) {
                ext.set_int(field, *self);
            }
        }
    };
}

integer_field!(i32, "a 32-bit integer");
integer_field!(i64, "a 64-bit integer");

/// Absent is false, as everything but "true" is.
impl FieldValue for bool {
    fn read(value: Option<&str>, _field: &'static str) -> Result<Self, HeaderError> {
        Ok(value.is_some_and(|value| value.eq_ignore_ascii_case("true")))
    }

    fn write(&self, field: &'static str, ext: &mut ExtFields) {
        ext.set_str(field, if *self { "true" } else { "false" });
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn read(value: Option<&str>, field: &'static str) -> Result<Self, HeaderError> {
        match value {
            None | Some("") => Ok(None),
            Some(value) => T::read(Some(value), field).map(Some),
        }
    }

    fn write(&self, field: &'static str, ext: &mut ExtFields) {
        if let Some(value) = self {
            value.write(field, ext);
        }
    }
}

/// Which end of a run of equal store times a search by time wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boundary {
    /// The first of them; what any unknown text means.
    #[default]
    Lower,
    /// The last of them.
    Upper,
}

impl FieldValue for Boundary {
    fn read(value: Option<&str>, _field: &'static str) -> Result<Self, HeaderError> {
        let upper = value.is_some_and(|value| value.eq_ignore_ascii_case("upper"));
        Ok(if upper { Self::Upper } else { Self::Lower })
    }

    fn write(&self, field: &'static str, ext: &mut ExtFields) {
        ext.set_str(field, if *self == Self::Upper { "UPPER" } else { "LOWER" });
    }
}
