//! Which bits of a message's bit map belong to a group: Java stores them with each SQL filter, and throws its whole file of
//! filters away when they are not those that it would compute.
//!
//! # Source
//! apache/rocketmq, `BloomFilter`; `tests/golden/known-answers/bloom-filter.json`.

/// Sizes of the bit maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BloomFilter {
    hashes: i32,
    /// A multiple of 8.
    bits: i32,
}

impl BloomFilter {
    /// For `groups` groups, of which `error_percent` of 100 may be taken for others. Both are brought into the range that
    /// makes sense: 1 to 99, and 1 to 65,536.
    #[must_use]
    pub fn new(error_percent: i32, groups: i32) -> BloomFilter {
        let error = f64::from(error_percent.clamp(1, 99)) / 100.0;
        let log = |base: f64, number: f64| number.ln() / base.ln();
        let hashes = log(0.5, error).ceil() as i32;
        let bits = f64::from(groups.clamp(1, 65_536)) * log(2.0, 1.0 / error) * log(2.0, std::f64::consts::E);
        let bytes = (bits.ceil() / 8.0).ceil() as i32;
        BloomFilter { hashes, bits: bytes * 8 }
    }

    #[must_use]
    pub fn bits(&self) -> i32 {
        self.bits
    }

    /// The bits of a group's subscription to a topic.
    #[must_use]
    pub fn positions(&self, group: &str, topic: &str) -> Vec<i32> {
        let hash = murmur3(format!("{group}#{topic}").as_bytes());
        let (low, high) = (hash as i32, (hash >> 32) as i32);
        let position = |n: i32| {
            let combined = low.wrapping_add(n.wrapping_mul(high));
            (if combined < 0 { !combined } else { combined }) % self.bits
        };
        (1..=self.hashes).map(position).collect()
    }
}

/// The first half of MurmurHash3 for 64-bit machines, 128 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    };
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        let (first, second) = block.split_at(8);
        h1 = (h1 ^ mix1(word(first))).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(word(second))).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (first, second) = blocks.remainder().split_at(blocks.remainder().len().min(8));
    h1 ^= mix1(word(first));
    h2 ^= mix2(word(second));
    let len = bytes.len() as u64;
    (h1, h2) = (h1 ^ len, h2 ^ len);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    let finish = |mut k: u64| {
        k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        k ^ (k >> 33)
    };
    finish(h1).wrapping_add(finish(h2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        error_rate_percent: i32,
        expected_count: i32,
        k: i32,
        m: i32,
        samples: Vec<Sample>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sample {
        string: String,
        bit_pos: Vec<i32>,
    }

    #[test]
    fn sizes_and_bits_are_those_of_java() {
        let text = include_str!("../../../tests/golden/known-answers/bloom-filter.json");
        let answers: Vec<Answer> = serde_json::from_str(text).expect("the file is a list of answers");
        for answer in answers {
            let filter = BloomFilter::new(answer.error_rate_percent, answer.expected_count);
            assert_eq!((filter.hashes, filter.bits), (answer.k, answer.m));
            for sample in answer.samples {
                let (group, topic) = sample.string.split_once('#').expect("group#topic");
                assert_eq!(filter.positions(group, topic), sample.bit_pos, "{}", sample.string);
            }
        }
    }
}
