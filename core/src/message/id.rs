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
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(56);
    let mut push = |bytes: &[u8]| {
        for byte in bytes {
            text.push(DIGITS[usize::from(byte >> 4)] as char);
            text.push(DIGITS[usize::from(byte & 0xF)] as char);
        }
    };
    match store_host.ip() {
        IpAddr::V4(ip) => push(&ip.octets()),
        IpAddr::V6(ip) => push(&ip.octets()),
    }
    push(&u32::from(store_host.port()).to_be_bytes());
    push(&physical_offset.to_be_bytes());
    text
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
