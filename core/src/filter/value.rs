//! The values of expressions, and how two of them compare.

use std::cmp::Ordering;

/// A literal.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Constant {
    Null,
    Boolean(bool),
    /// What fits: Java then reads a text beside it as a number of 32 bits, and no other.
    Int(i32),
    Long(i64),
    Double(f64),
    Text(String),
}

/// What a part of an expression comes to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Value<'a> {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'a str),
}

/// Two values have no order: a text is not the number, or the number of that size, that it is held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the values cannot be compared")]
pub struct NotComparable;

impl Constant {
    pub fn value(&self) -> Value<'_> {
        match self {
            Constant::Null => Value::Null,
            Constant::Boolean(truth) => Value::Boolean(*truth),
            Constant::Int(number) => Value::Int(*number),
            Constant::Long(number) => Value::Long(*number),
            Constant::Double(number) => Value::Double(*number),
            Constant::Text(text) => Value::Text(text),
        }
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Constant::Int(_) | Constant::Long(_) | Constant::Double(_))
    }
}

/// Java's `Double#compareTo`: a total order with one NaN, above all, and the negative zero below the other.
fn order_of_doubles(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (false, false) => left.total_cmp(&right),
        (left, right) => left.cmp(&right),
    }
}

/// The order of two values that are not NULL. A text is read as what stands beside it; values of kinds that have nothing to
/// do with each other count as "less", as in Java.
///
/// # Errors
/// [`NotComparable`].
///
/// # Source
/// apache/rocketmq, `ComparisonExpression#__compare`. A truth value on the left of a text is a cast that fails there.
pub(super) fn order(left: Value<'_>, right: Value<'_>) -> Result<Ordering, NotComparable> {
    use Value::{Boolean, Double, Int, Long, Null, Text};
    fn read<T: std::str::FromStr>(text: &str) -> Result<T, NotComparable> {
        text.parse().map_err(|_| NotComparable)
    }
    let read_double = |text| java_double(text).ok_or(NotComparable);
    Ok(match (left, right) {
        (Boolean(left), Boolean(right)) => left.cmp(&right),
        (Boolean(_), Text(_)) => return Err(NotComparable),
        (Text(left), Boolean(right)) => left.eq_ignore_ascii_case("true").cmp(&right),
        (Int(left), Int(right)) => left.cmp(&right),
        (Int(left), Long(right)) => i64::from(left).cmp(&right),
        (Long(left), Int(right)) => left.cmp(&i64::from(right)),
        (Long(left), Long(right)) => left.cmp(&right),
        (Int(left), Double(right)) => order_of_doubles(f64::from(left), right),
        (Double(left), Int(right)) => order_of_doubles(left, f64::from(right)),
        (Long(left), Double(right)) => order_of_doubles(left as f64, right),
        (Double(left), Long(right)) => order_of_doubles(left, right as f64),
        (Double(left), Double(right)) => order_of_doubles(left, right),
        (Int(left), Text(right)) => left.cmp(&read(right)?),
        (Text(left), Int(right)) => read::<i32>(left)?.cmp(&right),
        (Long(left), Text(right)) => left.cmp(&read(right)?),
        (Text(left), Long(right)) => read::<i64>(left)?.cmp(&right),
        (Double(left), Text(right)) => order_of_doubles(left, read_double(right)?),
        (Text(left), Double(right)) => order_of_doubles(read_double(left)?, right),
        (Text(left), Text(right)) => left.cmp(right),
        (Null | Boolean(_), _) | (_, Null | Boolean(_)) => Ordering::Less,
    })
}

/// As [`order`], but two texts are compared as the numbers they must be.
///
/// # Errors
/// [`NotComparable`].
pub(super) fn order_by_number(left: Value<'_>, right: Value<'_>) -> Result<Ordering, NotComparable> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            let (left, right) = (java_double(left), java_double(right));
            Ok(order_of_doubles(left.ok_or(NotComparable)?, right.ok_or(NotComparable)?))
        }
        _ => order(left, right),
    }
}

/// Reads a number as Java's `Double#valueOf` does: blanks around it, a suffix `f` or `d`, `NaN` and `Infinity` by these names.
/// Its hexadecimal form is not read.
pub(super) fn java_double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        "NaN" => return Some(f64::NAN),
        "Infinity" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        "Infinity" => return Some(f64::INFINITY),
        _ => {}
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text).parse().ok()
}
