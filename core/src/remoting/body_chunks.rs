//! What follows a frame's header: shared chunks, so that records of the store leave without being copied.

use bytes::{Bytes, BytesMut};

/// Zero or more shared chunks. Two bodies are equal when their bytes are, however they are cut.
#[derive(Clone, Default)]
pub struct Body {
    chunks: Chunks,
}

#[derive(Clone, Default)]
enum Chunks {
    #[default]
    None,
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Body {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.chunks().iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing: the protocol knows no difference between an empty body and none.
    pub fn is_empty(&self) -> bool {
        self.chunks().iter().all(Bytes::is_empty)
    }

    /// The chunks in order.
    pub fn chunks(&self) -> &[Bytes] {
        match &self.chunks {
            Chunks::None => &[],
            Chunks::One(chunk) => std::slice::from_ref(chunk),
            Chunks::Many(chunks) => chunks,
        }
    }

    /// The chunks in order, to be moved into a queue of output.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        let (one, many) = match self.chunks {
            Chunks::None => (None, Vec::new()),
            Chunks::One(chunk) => (Some(chunk), Vec::new()),
            Chunks::Many(chunks) => (None, chunks),
        };
        one.into_iter().chain(many)
    }

    /// The whole body in one piece: shared if it is one chunk, copied otherwise.
    pub fn to_bytes(&self) -> Bytes {
        match &self.chunks {
            Chunks::None => Bytes::new(),
            Chunks::One(chunk) => chunk.clone(),
            Chunks::Many(chunks) => {
                let mut whole = BytesMut::with_capacity(self.len());
                for chunk in chunks {
                    whole.extend_from_slice(chunk);
                }
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let chunks = if bytes.is_empty() { Chunks::None } else { Chunks::One(bytes) };
        Self { chunks }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(chunks: Vec<Bytes>) -> Self {
        Self { chunks: Chunks::Many(chunks) }
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::from(Bytes::from_static(bytes))
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes in {} chunks", self.len(), self.chunks().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_read_as_one_body() {
        let body = Body::from(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]);
        assert_eq!(body.len(), 3);
        assert_eq!(body.to_bytes(), Bytes::from_static(b"abc"));
        assert_eq!(body, Body::from(b"abc".to_vec()));
        assert_eq!(body.into_chunks().map(|chunk| chunk.len()).collect::<Vec<_>>(), [2, 0, 1]);
    }

    #[test]
    fn an_empty_body_is_no_body() {
        assert!(Body::from(Vec::<u8>::new()).is_empty());
        assert!(Body::from(Bytes::new()).chunks().is_empty());
        assert_eq!(Body::from(vec![Bytes::new()]), Body::default());
    }
}
