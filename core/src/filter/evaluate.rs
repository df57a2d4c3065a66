//! What an expression says of one message.

use std::cmp::Ordering;

use super::value::{NotComparable, Value, order, order_by_number};
use super::{Node, Order, Part};

type Answer<T> = Result<T, NotComparable>;

/// A property by its name.
type Properties<'f, 'a> = &'f dyn Fn(&str) -> Option<&'a str>;

/// The value of the whole; one that is no truth value counts as unknown.
pub(super) fn truth<'a, 'p: 'a>(
    node: &'a Node,
    property: &dyn Fn(&str) -> Option<&'p str>,
) -> Answer<Option<bool>> {
    let property = |name: &str| -> Option<&'a str> { property(name) };
    boolean(node, &property)
}

fn boolean<'a>(node: &'a Node, property: Properties<'_, 'a>) -> Answer<Option<bool>> {
    Ok(match value(node, property)? {
        Value::Boolean(truth) => Some(truth),
        _ => None,
    })
}

fn value<'a>(node: &'a Node, property: Properties<'_, 'a>) -> Answer<Value<'a>> {
    let truth = |truth: Option<bool>| truth.map_or(Value::Null, Value::Boolean);
    Ok(match node {
        Node::Constant(constant) => constant.value(),
        Node::Property(name) => property(name).map_or(Value::Null, Value::Text),
        Node::Negate(node) => match value(node, property)? {
            Value::Int(number) => Value::Int(number.wrapping_neg()),
            Value::Long(number) => Value::Long(number.wrapping_neg()),
            Value::Double(number) => Value::Double(-number),
            Value::Null | Value::Boolean(_) | Value::Text(_) => Value::Null,
        },
        Node::Not(node) => truth(boolean(node, property)?.map(|truth| !truth)),
        Node::Cast(node) => match value(node, property)? {
            Value::Null => Value::Null,
            Value::Boolean(truth) => Value::Boolean(truth),
            _ => Value::Boolean(false),
        },
        Node::And(nodes) => truth(chain(nodes, false, property)?),
        Node::Or(nodes) => truth(chain(nodes, true, property)?),
        Node::Equal(left, right) => equal(value(left, property)?, value(right, property)?)?,
        Node::Order(wanted, left, right) => truth(ordered(*wanted, left, right, property)?),
        Node::Between { value, low, high, not } => {
            let sides = match not {
                false => [(Order::GreaterOrEqual, low), (Order::LessOrEqual, high)],
                true => [(Order::Less, low), (Order::Greater, high)],
            };
            let mut unknown = false;
            for (wanted, bound) in sides {
                match ordered(wanted, value, bound, property)? {
                    Some(truth) if truth == *not => return Ok(Value::Boolean(*not)),
                    Some(_) => {}
                    None => unknown = true,
                }
            }
            truth((!unknown).then_some(!*not))
        }
        Node::In { property: name, list, not } => {
            truth(property(name).map(|found| list.contains(found) != *not))
        }
        Node::Part { part, value: node, search, not } => match value(node, property)? {
            Value::Text(text) if !search.is_empty() => Value::Boolean(part.is_in(search, text) != *not),
            _ => Value::Boolean(false),
        },
    })
}

/// AND (`decides` is false) and OR (true): the first operand that decides ends it, whatever the others are.
fn chain<'a>(nodes: &'a [Node], decides: bool, property: Properties<'_, 'a>) -> Answer<Option<bool>> {
    let mut unknown = false;
    for node in nodes {
        match boolean(node, property)? {
            Some(truth) if truth == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok((!unknown).then_some(!decides))
}

/// Not symmetric: what is missing on the left is unknown, on the right it is unequal.
fn equal<'a>(left: Value<'_>, right: Value<'_>) -> Answer<Value<'a>> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => Value::Boolean(true),
        (Value::Null, _) => Value::Null,
        (_, Value::Null) => Value::Boolean(false),
        (left, right) => Value::Boolean(order(left, right)? == Ordering::Equal),
    })
}

fn ordered<'a>(
    wanted: Order,
    left: &'a Node,
    right: &'a Node,
    property: Properties<'_, 'a>,
) -> Answer<Option<bool>> {
    let left = value(left, property)?;
    if left == Value::Null {
        return Ok(None);
    }
    let right = value(right, property)?;
    if right == Value::Null {
        return Ok(None);
    }
    let order = order_by_number(left, right)?;
    Ok(Some(match wanted {
        Order::Greater => order == Ordering::Greater,
        Order::GreaterOrEqual => order != Ordering::Less,
        Order::Less => order == Ordering::Less,
        Order::LessOrEqual => order != Ordering::Greater,
    }))
}

impl Part {
    fn is_in(self, search: &str, text: &str) -> bool {
        match self {
            Part::Contains => text.contains(search),
            Part::StartsWith => text.starts_with(search),
            Part::EndsWith => text.ends_with(search),
        }
    }
}
