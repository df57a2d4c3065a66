//! Bytes on their way to the peer: headers gathered in one buffer, large bodies left where they are.
//!
//! Invariant: `chunks` come before `tail`, and no chunk is empty.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::remoting::{JsonAnswer, RemotingCommand, frame};

/// Up to this many bytes, copying a body chunk behind its header is cheaper than a slice of its own in the write.
const COPIED_CHUNK_BYTES_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Output {
    chunks: VecDeque<Bytes>,
    chunk_bytes: usize,
    tail: BytesMut,
}

impl Output {
    pub(super) fn push(&mut self, command: &RemotingCommand) {
        frame::encode(command, &mut self.tail);
        for chunk in command.body.chunks() {
            if chunk.len() <= COPIED_CHUNK_BYTES_MAX {
                self.tail.extend_from_slice(chunk);
                continue;
            }
            if !self.tail.is_empty() {
                let head = self.tail.split().freeze();
                self.push_chunk(head);
            }
            self.push_chunk(chunk.clone());
        }
    }

    pub(super) fn push_json(&mut self, opaque: i32, answer: &JsonAnswer) {
        frame::encode_json_answer(opaque, answer, &mut self.tail);
    }

    fn push_chunk(&mut self, chunk: Bytes) {
        self.chunk_bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Gives the memory of an empty output back.
    pub(super) fn release(&mut self) {
        if !self.has_remaining() {
            *self = Output::default();
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.chunk_bytes + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail[..], |chunk| &chunk[..])
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let slices = self.chunks.iter().map(|chunk| &chunk[..]).chain(tail);
        let mut count = 0;
        for (slot, slice) in into.iter_mut().zip(slices) {
            *slot = IoSlice::new(slice);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining(), "advance {count} past the {} bytes there", self.remaining());
        while let Some(front) = self.chunks.front_mut() {
            let taken = count.min(front.len());
            self.chunk_bytes -= taken;
            count -= taken;
            if taken < front.len() {
                front.advance(taken);
                return;
            }
            self.chunks.pop_front();
            if count == 0 {
                return;
            }
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            self.tail.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> (Output, Vec<u8>) {
        let mut output = Output::default();
        let mut whole = BytesMut::new();
        for len in [0usize, 10, 300, 5000, 1] {
            let body: Vec<u8> = (0..len).map(|byte| (byte % 251) as u8).collect();
            let command = RemotingCommand::request(10).with_body(body.clone());
            output.push(&command);
            frame::encode(&command, &mut whole);
            whole.extend_from_slice(&body);
        }
        (output, whole.to_vec())
    }

    #[test]
    fn any_step_of_writing_gives_the_same_bytes() {
        for step in [1, 7, 299, 301, 4096, 1 << 20] {
            let (mut output, whole) = output();
            assert_eq!(output.remaining(), whole.len());
            let mut written = Vec::new();
            while output.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 16];
                let count = output.chunks_vectored(&mut slices);
                let offered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(offered.len(), output.remaining());
                let taken = step.min(offered.len());
                written.extend_from_slice(&offered[..taken]);
                output.advance(taken);
            }
            assert_eq!(written, whole);
        }
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let body = Bytes::from(vec![7; 1000]);
        let mut output = Output::default();
        output.push(&RemotingCommand::request(10).with_body(body.clone()));
        assert!(output.chunks.iter().any(|chunk| chunk.as_ptr() == body.as_ptr()));
    }
}
