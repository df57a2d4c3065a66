use super::*;
use crate::ha::explore::record;

const FILE: u64 = 512;

fn pieces(follower: &mut Follower) -> Vec<Ready> {
    std::iter::from_fn(|| follower.ready().expect("good bytes")).collect()
}

fn blank(left: u32) -> Vec<u8> {
    let mut bytes = vec![0; left as usize];
    codec::encode_blank(&mut bytes, left);
    bytes
}

#[test]
fn records_are_given_whole_however_they_were_cut() {
    let first = record(FILE, 1);
    let second = record(FILE + first.len() as u64, 2);
    let both = [first.clone(), second.clone()].concat();
    for cut in 0..=both.len() {
        let mut follower = Follower::new(FILE, FILE);
        follower.frame(FILE, &both[..cut]).expect("it continues");
        let mut given: Vec<u8> = Vec::new();
        let mut ready = pieces(&mut follower);
        follower.frame(FILE + cut as u64, &both[cut..]).expect("it continues");
        ready.extend(pieces(&mut follower));
        for ready in ready {
            let Ready::Records { bytes, .. } = ready else { panic!("no file ends here") };
            given.extend_from_slice(&bytes);
        }
        assert_eq!(given, both, "cut at {cut}");
        assert_eq!(follower.end(), FILE + both.len() as u64);
    }
}

#[test]
fn the_end_of_a_file_is_a_piece_and_its_rest_says_nothing() {
    let first = record(0, 1);
    let left = FILE as usize - first.len();
    let next = record(FILE, 2);
    let bytes = [first.clone(), blank(left as u32), next.clone()].concat();
    for cut in 0..=FILE as usize {
        let mut follower = Follower::new(0, FILE);
        let mut ready = Vec::new();
        for range in [0..cut, cut..FILE as usize, FILE as usize..bytes.len()] {
            follower.frame(range.start as u64, &bytes[range]).expect("it continues");
            ready.extend(pieces(&mut follower));
        }
        assert_eq!(ready.len(), 3, "cut at {cut}");
        assert!(matches!(ready[1], Ready::FileEnd { .. }));
        assert_eq!(follower.end(), bytes.len() as u64);
    }
}

#[test]
fn an_empty_log_begins_with_the_first_body_and_only_where_a_file_does() {
    let mut follower = Follower::new(0, FILE);
    assert_eq!(follower.frame(3 * FILE, &[]), Ok(None));
    assert_eq!(follower.frame(3 * FILE, &record(3 * FILE, 1)), Ok(Some(3 * FILE)));
    assert_eq!(pieces(&mut follower).len(), 1);
    let refused = Follower::new(0, FILE).frame(FILE + 8, &[1]);
    assert_eq!(refused, Err(NotTaken::Begin { found: FILE + 8, file_bytes: FILE }));
}

#[test]
fn what_does_not_continue_the_log_is_not_taken() {
    let mut follower = Follower::new(FILE, FILE);
    assert_eq!(follower.frame(FILE + 1, &[]), Err(NotTaken::Offset { expected: FILE, found: FILE + 1 }));
    // A whole record of another place: bytes from the middle of another history can look like this.
    follower.frame(FILE, &record(2 * FILE, 1)).expect("its offset is the expected one");
    assert!(matches!(follower.ready(), Err(NotTaken::Record { at: FILE, .. })));
    let mut follower = Follower::new(FILE, FILE);
    follower.frame(FILE, &blank(40)).expect("its offset is the expected one");
    assert_eq!(follower.ready(), Err(NotTaken::Blank { at: FILE, bytes: 40, left: FILE }));
    let mut follower = Follower::new(2 * FILE - 20, FILE);
    follower.frame(2 * FILE - 20, &record(2 * FILE - 20, 1)).expect("its offset is the expected one");
    assert!(matches!(follower.ready(), Err(NotTaken::AcrossFiles { .. })));
}

#[test]
fn a_flipped_bit_is_not_taken() {
    let mut bytes = record(FILE, 1);
    let last = bytes.len() - 1;
    bytes[last / 2] ^= 1;
    let mut follower = Follower::new(FILE, FILE);
    follower.frame(FILE, &bytes).expect("its offset is the expected one");
    assert!(follower.ready().is_err());
}
