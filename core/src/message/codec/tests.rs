use super::*;
use proptest::prelude::*;

/// Made by Java's classes: `TopicTest`, body `hello`, queue 3 at 12, log position 1024.
const JAVA: &str = "000000a8daa320a73610a686000000030000000000000000\
0000000c000000000000040000000000\
0000018bcfe568000a000009000015380000018bcfe568050a00000100002a9f000000000000000000000000\
0000000568656c6c6f09546f70696354657374\
003f4b455953016b31206b3202554e49515f4b455901304130303030303944343331313842344141433232453441354337303030303002\
544147530154616741\
02";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex"))
        .collect()
}

fn java_message() -> MessageToStore<'static> {
    MessageToStore {
        topic: "TopicTest",
        queue_id: 3,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: "10.0.0.9:5432".parse().expect("an address"),
        store_host: "10.0.0.1:10911".parse().expect("an address"),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"hello",
        properties: "KEYS\u{1}k1 k2\u{2}UNIQ_KEY\u{1}0A000009D43118B4AAC22E4A5C700000\u{2}TAGS\u{1}TagA\u{2}",
        wait_for_flush: true,
    }
}

const PLACE: Place = Place { queue_offset: 12, physical_offset: 1024, store_timestamp: 1_700_000_000_005 };
const WHOLE: Check = Check::Whole { position: 1024, record_crc: RecordCrc::Fits };
const WHOLE_CRC: Check = Check::Whole { position: 1024, record_crc: RecordCrc::Expected };

fn encoded(message: MessageToStore<'_>, record_crc: bool) -> Vec<u8> {
    let prepared = prepare(message, record_crc).expect("a message that fits");
    let mut bytes = vec![0xEE; prepared.size() as usize];
    prepared.encode(&mut bytes, PLACE);
    bytes
}

#[test]
fn a_record_is_byte_for_byte_what_java_writes() {
    assert_eq!(encoded(java_message(), false), hex(JAVA));
}

#[test]
fn a_record_of_java_is_read_field_by_field() {
    let bytes = hex(JAVA);
    let record = decode(&bytes, WHOLE).expect("a whole record");
    let message = java_message();
    assert_eq!((record.size, record.magic, record.body_crc), (168, MAGIC_V1, 907_060_870));
    assert_eq!((record.queue_id, record.queue_offset, record.physical_offset), (3, 12, 1024));
    assert_eq!((record.born_host, record.store_host), (message.born_host, message.store_host));
    assert_eq!((record.topic, record.body), (message.topic, message.body));
    assert_eq!(record.properties, message.properties);
    assert!(decode(&bytes, WHOLE_CRC).is_ok(), "Java may have written it where we have before");
}

#[test]
fn any_flipped_byte_of_a_record_with_checksum_is_seen() {
    let good = encoded(java_message(), true);
    assert!(decode(&good, WHOLE_CRC).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        assert!(decode(&bad, WHOLE_CRC).is_err(), "byte {at}");
        bad[at] = 0;
        assert!(bad == good || decode(&bad, WHOLE_CRC).is_err(), "byte {at} zeroed");
    }
    for at in 0..good.len() {
        assert!(decode(&good[..at], WHOLE_CRC).is_err(), "cut at {at}");
    }
}

/// Seed 200177 of `store`: with checksums in turns, a bit of the property's name turned and the record passed for one without.
#[test]
fn any_turned_bit_of_a_record_with_checksum_is_seen_where_others_have_none() {
    let good = encoded(java_message(), true);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        for check in [WHOLE, WHOLE_CRC] {
            assert!(decode(&bad, check).is_err(), "bit {bit}, {check:?}");
        }
    }
}

#[test]
fn a_property_that_is_like_a_checksum_is_not_taken_for_a_damaged_one() {
    let like = ["__CRC32C", "__CRC32\"", "__CRC32!", "_aCbC32#", "__CRC32#"];
    for name in like {
        for value in ["0123456789", "abcdefghij"] {
            // A checksum that is left out, before, behind, or within what is like one.
            for properties in [
                format!("a\u{1}1\u{2}{name}\u{1}{value}\u{2}"),
                format!("__CRC32#\u{1}1\u{2}{name}\u{1}{value}\u{2}"),
                format!("{name}\u{1}{value}\u{2}__CRC32#\u{1}1\u{2}"),
                format!("{name}\u{1}0123\u{2}__CRC32#\u{1}1\u{2}4567\u{2}"),
            ] {
                let bytes = encoded(MessageToStore { properties: &properties, ..java_message() }, false);
                assert!(decode(&bytes, WHOLE).is_ok(), "{properties:?}");
            }
        }
    }
    // Java's record stays whole unless it differs from a checksum by one bit.
    let properties = format!("UNIQ_KEY\u{1}1\u{2}{}\u{1}0123456789\u{2}", "__CRC32C");
    let mut java =
        encoded(MessageToStore { properties: &"x".repeat(properties.len()), ..java_message() }, false);
    let at = java.len() - properties.len();
    java[at..].copy_from_slice(properties.as_bytes());
    assert!(decode(&java, WHOLE).is_ok());
}

#[test]
fn properties_torn_to_zeros_pass_the_body_check_and_fail_the_whole_one() {
    let mut torn = encoded(java_message(), true);
    let at = torn.len() - 50;
    torn[at..].fill(0);
    assert!(decode(&torn, Check::Body).is_ok());
    assert_eq!(decode(&torn, WHOLE_CRC), Err(RecordError::RecordCrcMissing));
}

/// Bytes without a zero among them, as a bad disk or a stray write leaves them: what they took the checksum from is no record of
/// Java's either.
#[test]
fn what_was_written_over_the_checksum_is_seen_by_its_form() {
    let good = encoded(java_message(), true);
    for bytes in 1..60 {
        for step in [37, 0x80] {
            let mut torn = good.clone();
            let end = torn.len();
            for (at, byte) in torn[end - bytes..].iter_mut().enumerate() {
                *byte = (at * step + 11) as u8 | 1;
            }
            assert!(decode(&torn, WHOLE_CRC).is_err(), "{bytes} bytes, step {step}");
        }
    }
    for whole in ["", "a\u{1}", "a\u{1}1\u{2}", "a\u{1}1\u{2}\u{2}b\u{1}\u{fc}\u{1}2"] {
        let bytes = encoded(MessageToStore { properties: whole, ..java_message() }, false);
        assert!(decode(&bytes, WHOLE_CRC).is_ok(), "{whole:?}");
    }
}

/// A 4.9 broker stores a message that a consumer hands back with the properties that it had, one of ours with its checksum.
#[test]
fn a_checksum_that_was_copied_says_nothing_where_ours_are_not_expected() {
    let mut stale = encoded(java_message(), true);
    // The queue offset is another one.
    stale[27] += 1;
    let foreign = Check::Whole { position: 1024, record_crc: RecordCrc::Foreign };
    assert!(decode(&stale, foreign).is_ok());
    for ours in [WHOLE, WHOLE_CRC] {
        assert!(matches!(decode(&stale, ours), Err(RecordError::RecordCrc { .. })));
    }
    let in_properties = stale.len() - CRC_PROPERTY_BYTES - 9;
    stale[in_properties] = 0;
    assert!(matches!(decode(&stale, foreign), Err(RecordError::RecordCrc { .. })), "it is torn");
}

#[test]
fn a_stale_checksum_property_is_replaced_and_an_open_end_is_closed() {
    let mut message = java_message();
    message.properties = "a\u{1}1\u{2}__CRC32#\u{1}0123456789\u{2}b\u{1}2";
    let bytes = encoded(message, true);
    let record = decode(&bytes, WHOLE_CRC).expect("a whole record");
    assert!(record.properties.starts_with("a\u{1}1\u{2}b\u{1}2\u{2}__CRC32#\u{1}"));
    assert_eq!(record.properties.matches("__CRC32#").count(), 1);
    message.properties = "";
    let bytes = encoded(message, true);
    assert_eq!(decode(&bytes, WHOLE_CRC).expect("a whole record").properties.len(), CRC_PROPERTY_BYTES);
}

#[test]
fn what_no_record_can_hold_is_refused() {
    let long = "x".repeat(PROPERTIES_BYTES_MAX - CRC_PROPERTY_BYTES);
    let mut message = java_message();
    message.properties = &long;
    assert!(prepare(message, false).is_ok());
    assert!(matches!(prepare(message, true), Err(EncodeError::Properties { bytes: 32_768, .. })));
    let topic = "t".repeat(256);
    message = java_message();
    message.topic = &topic;
    assert!(matches!(prepare(message, true), Err(EncodeError::Topic { bytes: 256, .. })));
}

/// Java keeps the properties of a batch's members as their sender wrote them.
#[test]
fn properties_that_are_no_text_are_read_as_java_reads_them() {
    let mut bytes = hex(JAVA);
    let at = bytes.len() - 3;
    bytes[at] = 0xFF;
    let record = decode(&bytes, WHOLE).expect("a whole record");
    assert!(record.properties.ends_with("TAGS\u{1}Ta\u{FFFD}A\u{2}"), "{:?}", record.properties);
    assert_eq!(record.raw_properties.len(), java_message().properties.len());
}

#[test]
fn a_record_elsewhere_than_it_says_is_refused() {
    let elsewhere = Check::Whole { position: 2048, record_crc: RecordCrc::Fits };
    assert_eq!(decode(&hex(JAVA), elsewhere), Err(RecordError::Position { stated: 1024, position: 2048 }));
}

#[test]
fn a_blank_is_told_from_a_record_and_from_nothing() {
    let mut blank = [0; 8];
    encode_blank(&mut blank, 208);
    assert_eq!(head(&blank), Head::Blank { size: 208 });
    assert_eq!(head(&hex(JAVA)), Head::Record { size: 168 });
    assert_eq!(head(&[0; 8]), Head::Nothing { magic: 0 });
    assert_eq!(head(&[1; 7]), Head::Nothing { magic: 0 });
}

fn host() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        topic in "[a-zA-Z%é中]{1,60}|[a-z]{128,255}",
        body in proptest::collection::vec(any::<u8>(), 0..600),
        properties in "([a-z]{1,5}\u{1}[a-zü]{1,9}\u{2}){0,9}",
        (born_host, store_host) in (host(), host()),
        record_crc in any::<bool>(),
        sys_flag in any::<i32>(),
    ) {
        let message = MessageToStore {
            topic: &topic, body: &body, properties: &properties, born_host, store_host, sys_flag, ..java_message()
        };
        let bytes = encoded(message, record_crc);
        let record = decode(&bytes, if record_crc { WHOLE_CRC } else { WHOLE }).expect("a whole record");
        prop_assert_eq!(record.size as usize, bytes.len());
        prop_assert_eq!(record.topic, &topic);
        prop_assert_eq!(record.body, &body);
        prop_assert_eq!(record.born_host, born_host);
        prop_assert_eq!(record.store_host, store_host);
        prop_assert!(record.properties.starts_with(&properties));
        prop_assert_eq!(record.magic, if topic.len() > 127 { MAGIC_V2 } else { MAGIC_V1 });
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), sized in any::<bool>()) {
        if sized && bytes.len() >= 8 {
            let size = (bytes.len() as u32).to_be_bytes();
            bytes[..4].copy_from_slice(&size);
            bytes[4..8].copy_from_slice(&MAGIC_V1.to_be_bytes());
        }
        let _ = decode(&bytes, WHOLE_CRC);
        let _ = head(&bytes);
    }
}

/// What a loss of power leaves of a record that begins `at` bytes into its file, when sector `lost` of its file is lost.
fn without_sector(whole: &[u8], at: usize, lost: usize) -> Vec<u8> {
    let sector = SECTOR_BYTES * lost..SECTOR_BYTES * (lost + 1);
    let byte = |(nth, byte): (usize, &u8)| if sector.contains(&(at + nth)) { 0 } else { *byte };
    whole.iter().enumerate().map(byte).collect()
}

fn as_recovery_sees(bytes: &[u8], at: u64) -> Result<(), RecordError> {
    decode(bytes, WHOLE).and_then(|record| check_torn(&record, at))
}

#[test]
fn a_lost_sector_of_a_record_without_a_checksum_is_seen_wherever_it_lies() {
    for (body, filler) in [(1, 0), (1, 700), (600, 700), (30, 20)] {
        let (body, properties) = (vec![b'b'; body], format!("KEYS\u{1}k\u{2}f\u{1}{}", "f".repeat(filler)));
        let message = MessageToStore { body: &body, properties: &properties, ..java_message() };
        let whole = encoded(message, false);
        assert!(!has_record_crc(decode(&whole, WHOLE).expect("a record").raw_properties));
        for at in 0..SECTOR_BYTES {
            assert_eq!(as_recovery_sees(&whole, at as u64), Ok(()), "at {at}");
            for lost in 0..=(at + whole.len() - 1) / SECTOR_BYTES {
                let torn = without_sector(&whole, at, lost);
                if torn == whole {
                    // No byte but zeros: nothing is lost.
                    continue;
                }
                assert!(as_recovery_sees(&torn, at as u64).is_err(), "at {at}, sector {lost}, {body:?}");
                // Part of it had been written when its page was last written by the kernel.
                let begins = (SECTOR_BYTES * lost).saturating_sub(at);
                let mut half = torn;
                half[begins..begins + 1].copy_from_slice(&whole[begins..begins + 1]);
                assert!(half == whole || as_recovery_sees(&half, at as u64).is_err(), "at {at}, {lost}");
            }
        }
    }
}

#[test]
fn a_record_that_could_pass_for_a_torn_one_carries_a_checksum_whatever_is_asked_for() {
    let carries = |message| {
        let bytes = encoded(message, false);
        decode(&bytes, WHOLE_CRC).is_ok_and(|record| has_record_crc(record.raw_properties))
    };
    assert!(carries(MessageToStore { body: b"", ..java_message() }));
    let zero = MessageToStore { properties: "KEYS\u{1}k\0\u{2}", ..java_message() };
    assert!(carries(zero));
    assert!(!carries(java_message()));
    // One of another broker: the zero at its end is taken for a lost sector, but not elsewhere.
    let mut foreign = hex(JAVA);
    let size = foreign.len();
    foreign[size - 2] = 0;
    assert_eq!(as_recovery_sees(&foreign, 0), Ok(()));
    assert_eq!(
        as_recovery_sees(&foreign, (SECTOR_BYTES - size + 1) as u64),
        Err(RecordError::Torn { at: size - 2 })
    );
}
