//! The body of a batch send (request code 320): its members, one after another, big-endian.
//!   0..4    length of the member, this field included
//!   4..8    magic, 8..12 body CRC: both ignored, clients write 0
//!   12..16  the producer's flag
//!   16..20  body length, then the body
//!   +2      property length, then the properties

/// One member of a batch, borrowed from the request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchItem<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: &'a str,
}

/// Why the bytes are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("member {index} of the batch is cut off: {needed} bytes needed, {have} are left")]
    Short { index: usize, needed: usize, have: usize },
    #[error("member {index} of the batch states a length of {stated} bytes, its parts have {actual}")]
    Length { index: usize, stated: i64, actual: usize },
    #[error("the properties of member {index} of the batch are not UTF-8")]
    NotText { index: usize },
}

/// Bytes of a member besides body and properties.
const FIXED_BYTES: usize = 22;

/// The members in order. After an error nothing follows.
#[must_use]
pub fn items(body: &[u8]) -> Items<'_> {
    Items { rest: body, index: 0 }
}

#[derive(Debug, Clone)]
pub struct Items<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> Items<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BatchError> {
        let short = BatchError::Short { index: self.index, needed: count, have: self.rest.len() };
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn i32(&mut self) -> Result<i32, BatchError> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes(bytes.try_into().expect("4 bytes were taken")))
    }

    fn item(&mut self) -> Result<BatchItem<'a>, BatchError> {
        let before = self.rest.len();
        let stated = self.i32()?;
        self.take(8)?;
        let flag = self.i32()?;
        let body_bytes = self.i32()?;
        let negative = BatchError::Length { index: self.index, stated: i64::from(body_bytes), actual: 0 };
        let body = self.take(usize::try_from(body_bytes).map_err(|_| negative)?)?;
        let length = self.take(2)?;
        let length = u16::from_be_bytes(length.try_into().expect("2 bytes were taken"));
        let properties = self.take(usize::from(length))?;
        let actual = before - self.rest.len();
        debug_assert_eq!(actual, FIXED_BYTES + body.len() + properties.len());
        if usize::try_from(stated) != Ok(actual) {
            return Err(BatchError::Length { index: self.index, stated: i64::from(stated), actual });
        }
        let properties =
            std::str::from_utf8(properties).map_err(|_| BatchError::NotText { index: self.index })?;
        self.index += 1;
        Ok(BatchItem { flag, body, properties })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<BatchItem<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// Appends one member, as a client writes it.
///
/// # Panics
/// When the properties are longer than 65,535 bytes or the member longer than `i32::MAX`.
pub fn encode_item(item: &BatchItem<'_>, into: &mut Vec<u8>) {
    let total = FIXED_BYTES + item.body.len() + item.properties.len();
    into.reserve(total);
    into.extend_from_slice(&i32::try_from(total).expect("a member fits a frame").to_be_bytes());
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&item.flag.to_be_bytes());
    into.extend_from_slice(&(item.body.len() as u32).to_be_bytes());
    into.extend_from_slice(item.body);
    let properties = u16::try_from(item.properties.len()).expect("properties fit 16 bits");
    into.extend_from_slice(&properties.to_be_bytes());
    into.extend_from_slice(item.properties.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAVA: &[u8] =
        b"\0\0\0\x2c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02b1\0\x14WAIT\x01true\x02TAGS\x01TagA\x02";

    #[test]
    fn a_batch_that_java_made_is_read_and_written_alike() {
        let item = BatchItem { flag: 0, body: b"b1", properties: "WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}" };
        assert_eq!(items(JAVA).collect::<Vec<_>>(), [Ok(item)]);
        let mut written = Vec::new();
        encode_item(&item, &mut written);
        assert_eq!(written, JAVA);
    }

    #[test]
    fn every_cut_and_every_wrong_length_is_refused_once() {
        for cut in 1..JAVA.len() {
            let read: Vec<_> = items(&JAVA[..cut]).collect();
            assert_eq!(read.len(), 1);
            assert!(read[0].is_err(), "cut at {cut}");
        }
        let mut wrong = JAVA.to_vec();
        wrong[3] -= 1;
        assert!(matches!(items(&wrong).next(), Some(Err(BatchError::Length { .. }))));
        wrong[16] = 0xFF;
        assert!(matches!(items(&wrong).next(), Some(Err(BatchError::Length { .. }))));
    }
}
