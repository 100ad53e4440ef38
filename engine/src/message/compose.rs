//! Writing a frame into claimed memory.
//!
//! Each function fills the *body* of a frame, that is everything behind the carrier's word, as carriers hand it out: byte
//! `i` of the frame is byte `i - WORD_BYTES` of the body. The frame's length was computed before (`Layout::frame_bytes` or
//! the payload's length). Each returns the tag to commit with.

use std::io::IoSlice;
use std::ops::Range;

use keyrange_transport::link::WORD_BYTES;

use super::{HEADER_BYTES, Header, KeyPart, Layout, PARTS_MAX, pad64};

/// Padding between the parts of a gathered frame, less than a line each.
static ZEROS: [u8; 64] = [0; 64];

/// The bytes of the body at these positions of the frame.
#[inline]
pub fn body_part(body: &mut [u8], at: Range<usize>) -> &mut [u8] {
    &mut body[at.start - WORD_BYTES..at.end - WORD_BYTES]
}

/// Writes the header alone.
#[inline]
pub fn compose_header(body: &mut [u8], header: &Header) -> u32 {
    body[..HEADER_BYTES - WORD_BYTES].copy_from_slice(&bytemuck::bytes_of(header)[WORD_BYTES..]);
    header.checksum()
}

/// Writes header, keys, value arrays and the wish at the end (nothing, if it is empty). The frame must be `layout.frame_bytes`
/// and the wish long, and the arrays as long as `layout` says; a caller's mistake panics.
#[inline]
pub fn compose<V: bytemuck::Pod>(
    body: &mut [u8],
    header: &Header,
    keys: KeyPart<'_>,
    arrays: &[&[V]],
    wish: &[u8],
    layout: &Layout,
) -> u32 {
    let key_part = HEADER_BYTES..HEADER_BYTES + layout.key_bytes;
    match keys {
        KeyPart::List(list) => body_part(body, key_part).copy_from_slice(bytemuck::cast_slice(list)),
        KeyPart::Signature(signature) => body_part(body, key_part).copy_from_slice(&signature.to_le_bytes()),
        KeyPart::Contiguous(_) => {}
    }
    for (part, array) in arrays.iter().enumerate() {
        body_part(body, layout.array(part)).copy_from_slice(bytemuck::cast_slice(array));
    }
    if !wish.is_empty() {
        body_part(body, layout.frame_bytes..layout.frame_bytes + wish.len()).copy_from_slice(wish);
    }
    compose_header(body, header)
}

/// Hands `send` the tag and the parts of a frame with keys, value arrays and wish, from where they lie: in order and gapless, they are the body
/// that [`compose`] would write.
pub fn gather<V: bytemuck::Pod, R>(
    header: &Header,
    keys: KeyPart<'_>,
    arrays: &[&[V]],
    wish: &[u8],
    layout: &Layout,
    send: impl FnOnce(u32, &[IoSlice<'_>]) -> R,
) -> R {
    let signature;
    let key_bytes: &[u8] = match keys {
        KeyPart::List(list) => bytemuck::cast_slice(list),
        KeyPart::Signature(value) => {
            signature = value.to_le_bytes();
            &signature
        }
        KeyPart::Contiguous(_) => &[],
    };
    let mut parts = [IoSlice::new(&[]); 3 + 2 * PARTS_MAX];
    parts[0] = IoSlice::new(&bytemuck::bytes_of(header)[WORD_BYTES..]);
    parts[1] = IoSlice::new(key_bytes);
    let (mut count, mut end) = (2, HEADER_BYTES + key_bytes.len());
    for (part, array) in arrays.iter().enumerate().filter(|(_, array)| !array.is_empty()) {
        let place = layout.array(part);
        parts[count] = IoSlice::new(&ZEROS[..place.start - end]);
        parts[count + 1] = IoSlice::new(bytemuck::cast_slice(array));
        (count, end) = (count + 2, place.end);
    }
    if !wish.is_empty() {
        parts[count] = IoSlice::new(wish);
        count += 1;
    }
    send(header.checksum(), &parts[..count])
}

/// Writes header and payload; the frame must be `HEADER_BYTES + payload.len()` long.
#[inline]
pub fn compose_bytes(body: &mut [u8], header: &Header, payload: &[u8]) -> u32 {
    body[HEADER_BYTES - WORD_BYTES..].copy_from_slice(payload);
    compose_header(body, header)
}

/// Writes a Call; the frame must be `HEADER_BYTES + pad64(verb) + arguments` long. Sets the verb's length in the header.
pub fn compose_call(body: &mut [u8], header: &Header, verb: &str, arguments: &[&[u8]]) -> u32 {
    let mut at = HEADER_BYTES + pad64(verb.len());
    body_part(body, HEADER_BYTES..HEADER_BYTES + verb.len()).copy_from_slice(verb.as_bytes());
    for part in arguments {
        body_part(body, at..at + part.len()).copy_from_slice(part);
        at += part.len();
    }
    compose_header(body, &Header { key_count: verb.len() as u32, ..*header })
}

/// Hands `send` the tag and the parts of a Call from where they lie, as [`gather`] does.
pub fn gather_call<R>(
    header: &Header,
    verb: &str,
    arguments: &[&[u8]],
    send: impl FnOnce(u32, &[IoSlice<'_>]) -> R,
) -> R {
    let header = Header { key_count: verb.len() as u32, ..*header };
    let mut parts = Vec::with_capacity(3 + arguments.len());
    parts.push(IoSlice::new(&bytemuck::bytes_of(&header)[WORD_BYTES..]));
    parts.push(IoSlice::new(verb.as_bytes()));
    parts.push(IoSlice::new(&ZEROS[..pad64(verb.len()) - verb.len()]));
    parts.extend(arguments.iter().map(|part| IoSlice::new(part)));
    send(header.checksum(), &parts)
}

/// Writes header and payload in two parts.
pub fn compose_parts(body: &mut [u8], header: &Header, first: &[u8], rest: &[u8]) -> u32 {
    let (to, to_rest) = body[HEADER_BYTES - WORD_BYTES..].split_at_mut(first.len());
    to.copy_from_slice(first);
    to_rest.copy_from_slice(rest);
    compose_header(body, header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_range::KeyRange;
    use crate::message::Kind;

    #[test]
    fn a_gathered_call_has_the_bytes_of_a_composed_one() {
        let (header, verb) = (Header::new(Kind::Call), "part");
        let arguments: [&[u8]; 4] = [&[1; 7], &[], &[2; 64], &[3; 100]];
        let mut body = vec![0; HEADER_BYTES + pad64(verb.len()) + 171 - WORD_BYTES];
        let tag = compose_call(&mut body, &header, verb, &arguments);
        let gathered = gather_call(&header, verb, &arguments, |tag, parts| {
            (tag, parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>())
        });
        assert_eq!(gathered, (tag, body));
    }

    #[test]
    fn a_gathered_frame_has_the_bytes_of_a_composed_one() {
        let list: Vec<u64> = (0..40).collect();
        let header = Header { parts: 1, ..Header::new(Kind::Push) };
        for parts in 0..=PARTS_MAX {
            for values in [0, 1, 15, 16, 17, 40] {
                let array: Vec<f32> = (0..values).map(|value| value as f32 + 1.0).collect();
                let arrays = [array.as_slice(); PARTS_MAX];
                let keys = [
                    (KeyPart::Contiguous(KeyRange::ALL), 0),
                    (KeyPart::Signature(7), 16),
                    (KeyPart::List(&list[..values]), 8 * values),
                ];
                for (keys, key_bytes) in keys {
                    let layout = Layout::new(key_bytes, 4 * values, parts);
                    let wish = &[9; 40][..values];
                    let mut body = vec![0; layout.frame_bytes + wish.len() - WORD_BYTES];
                    let tag = compose(&mut body, &header, keys, &arrays[..parts], wish, &layout);
                    let gathered = gather(&header, keys, &arrays[..parts], wish, &layout, |tag, pieces| {
                        (tag, pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>())
                    });
                    assert_eq!(
                        gathered,
                        (tag, body),
                        "{parts} arrays of {values} values, {key_bytes} bytes of keys"
                    );
                }
            }
        }
    }
}
