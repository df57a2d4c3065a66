//! CRC-32 (IEEE, reflected, as zlib), from its definition: the oracles' own, so that a mistake in the broker's is seen.

/// What a byte does to the sum, and what it does when so many bytes of zero follow it.
const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[zeros - 1][byte];
            tables[zeros][byte] = tables[0][(before & 0xFF) as usize] ^ (before >> 8);
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let of_byte = |crc: u32, byte: u8| TABLES[0][((crc ^ u32::from(byte)) & 0xFF) as usize] ^ (crc >> 8);
    let (words, rest) = bytes.as_chunks::<8>();
    let crc = words.iter().fold(!0, |crc: u32, word| {
        let word = u64::from_le_bytes(*word) ^ u64::from(crc);
        let byte = |at: usize| TABLES[7 - at][(word >> (8 * at)) as usize & 0xFF];
        (0..8).fold(0, |sum, at| sum ^ byte(at))
    });
    !rest.iter().fold(crc, |crc, byte| of_byte(crc, *byte))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(super::crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(super::crc32(b""), 0);
    }

    #[test]
    fn eight_bytes_at_once_are_eight_bytes() {
        let bytes: Vec<u8> = (0..100_u32).map(|at| (at * at % 251) as u8).collect();
        let one_by_one = |bytes: &[u8]| {
            !bytes.iter().fold(!0_u32, |crc, byte| {
                super::TABLES[0][((crc ^ u32::from(*byte)) & 0xFF) as usize] ^ (crc >> 8)
            })
        };
        for end in 0..=bytes.len() {
            assert_eq!(super::crc32(&bytes[..end]), one_by_one(&bytes[..end]), "{end} bytes");
        }
    }
}
