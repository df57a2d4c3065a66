//! The offset message id: where a record is, as upper-case hex.
//!   0..4 or 0..16  store host, IPv4 or IPv6, network order
//!   +4             port, 4 bytes
//!   +8             physical offset of the record, in bytes
//! 32 characters for IPv4, 56 for IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why a text is no offset message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a message id has 32 or 56 characters, found {0}")]
    Length(usize),
    #[error("a message id is made of hex digits")]
    NotHex,
    #[error("the port {0} of the message id is above 65535")]
    Port(u32),
}

#[must_use]
pub fn offset_message_id(store_host: SocketAddr, physical_offset: u64) -> String {
    let mut text = String::with_capacity(56);
    push_offset_message_id(&mut text, store_host, physical_offset);
    text
}

/// Appends the id to `text`.
pub fn push_offset_message_id(text: &mut String, store_host: SocketAddr, physical_offset: u64) {
    match store_host.ip() {
        IpAddr::V4(ip) => push_hex(text, u64::from(ip.to_bits()), 8),
        IpAddr::V6(ip) => {
            push_hex(text, (ip.to_bits() >> 64) as u64, 16);
            push_hex(text, ip.to_bits() as u64, 16);
        }
    }
    push_hex(text, u64::from(store_host.port()), 8);
    push_hex(text, physical_offset, 16);
}

/// Appends the lowest `digits` digits, at most 16.
fn push_hex(text: &mut String, value: u64, digits: usize) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut hex = [b'0'; 16];
    let mut left = value;
    for digit in hex.iter_mut().rev() {
        *digit = DIGITS[(left & 0xF) as usize];
        left >>= 4;
    }
    text.push_str(std::str::from_utf8(&hex[16 - digits..]).expect("hex digits are ASCII"));
}

/// The store host and physical offset that `text` names.
///
/// # Errors
/// [`IdError`] when it names none.
pub fn parse(text: &str) -> Result<(SocketAddr, u64), IdError> {
    if !matches!(text.len(), 32 | 56) {
        return Err(IdError::Length(text.len()));
    }
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(IdError::NotHex);
    }
    let number = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or(IdError::NotHex)
    };
    let host_end = text.len() - 24;
    let host = number(0..host_end)?;
    let ip = if host_end == 8 {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(host).map_err(|_| IdError::NotHex)?))
    } else {
        IpAddr::V6(Ipv6Addr::from(host))
    };
    let port = u32::try_from(number(host_end..host_end + 8)?).map_err(|_| IdError::NotHex)?;
    let port = u16::try_from(port).map_err(|_| IdError::Port(port))?;
    let offset = u64::try_from(number(host_end + 8..text.len())?).map_err(|_| IdError::NotHex)?;
    Ok((SocketAddr::new(ip, port), offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_java_makes() {
        let cases = [
            ("127.0.0.1:10911", 0, "7F00000100002A9F0000000000000000"),
            ("10.0.0.1:65535", 1_099_511_627_776, "0A0000010000FFFF0000010000000000"),
            ("[::1]:10911", 1024, "0000000000000000000000000000000100002A9F0000000000000400"),
        ];
        for (host, offset, text) in cases {
            let host: SocketAddr = host.parse().expect("an address");
            assert_eq!(offset_message_id(host, offset), text);
            assert_eq!(parse(text), Ok((host, offset)));
        }
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        assert_eq!(parse("7F"), Err(IdError::Length(2)));
        assert_eq!(parse("7F00000100002A9F000000000000000G"), Err(IdError::NotHex));
        assert_eq!(parse("7F00000100012A9F0000000000000000"), Err(IdError::Port(0x12A9F)));
        assert_eq!(parse("+F00000100002A9F0000000000000000"), Err(IdError::NotHex));
    }
}
