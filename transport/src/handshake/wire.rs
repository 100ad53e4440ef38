//! The handshake's bytes. All numbers are little-endian.
//!
//! ```text
//! preface (16)   0  magic "KEYRANGE"    8  u16 version   10  u8 kind   11  u8 zero   12  u32 body bytes
//! Hello, Answer  0  [16] job           16  u32 node      20  u8 role   21  u8 carrier   22  u8 name bytes   23  u8 zero
//!               24  u32 epoch          28  u32 purpose   32  u32 ring bytes   36  [32] nonce   68  name
//! Proof, Welcome 0  [32] HMAC-SHA256
//! Refusal        0  u8 reason
//! ```
//!
//! The preface is the same in every version, so that two versions can tell each other apart.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{HandshakeError, Identity, Nonce, Refusal, Request};
use crate::link::CarrierKind;

/// The protocol version of this build: handshake, records and messages together.
pub const VERSION: u16 = 1;
/// Longest node name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest message, preface included. No more is ever buffered for a peer not yet proved.
pub const MESSAGE_BYTES_MAX: usize = PREFACE_BYTES + HELLO_BYTES + NAME_BYTES_MAX;

pub(super) const PREFACE_BYTES: usize = 16;
pub(super) const HELLO_BYTES: usize = 68;
pub(super) const PROOF_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"KEYRANGE";

/// The kinds of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello = 1,
    Answer = 2,
    Proof = 3,
    Welcome = 4,
    Refusal = 5,
}

/// Whose proof it is; a proof never verifies in the other direction.
#[derive(Clone, Copy)]
pub(super) enum Prover {
    Initiator,
    Responder,
}

/// The body of Hello and Answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub job: [u8; 16],
    pub identity: Identity,
    pub request: Request,
    pub nonce: Nonce,
}

fn malformed(field: &'static str, expected: impl ToString, got: impl ToString) -> HandshakeError {
    HandshakeError::Malformed { field, expected: expected.to_string(), got: got.to_string() }
}

/// Checks this side's own identity, so that encoding cannot fail.
pub(super) fn check_local(identity: &Identity) -> Result<(), HandshakeError> {
    check_name(&identity.name).map_err(|(expected, got)| HandshakeError::BadLocal {
        field: "name",
        expected,
        got,
    })
}

fn check_name(name: &str) -> Result<(), (String, String)> {
    if name.len() > NAME_BYTES_MAX {
        return Err((format!("at most {NAME_BYTES_MAX} bytes"), format!("{} bytes", name.len())));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(("no control characters".into(), format!("{c:?}"))),
        None => Ok(()),
    }
}

/// A whole message from its kind and body.
pub(super) fn message(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFACE_BYTES + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0]);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Reads a preface: the message's kind byte and the length of its body, which is at most what a Hello needs.
pub(super) fn read_preface(bytes: &[u8; PREFACE_BYTES]) -> Result<(u8, usize), HandshakeError> {
    let (magic, rest) = bytes.split_at(8);
    if magic != MAGIC {
        return Err(HandshakeError::NotKeyrange { got: magic.try_into().expect("eight bytes") });
    }
    let version = u16::from_le_bytes([rest[0], rest[1]]);
    if version != VERSION {
        return Err(HandshakeError::WrongVersion { expected: VERSION, got: version });
    }
    if rest[3] != 0 {
        return Err(malformed("reserved byte of the preface", 0, rest[3]));
    }
    let body_bytes = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]);
    if body_bytes as usize > MESSAGE_BYTES_MAX - PREFACE_BYTES {
        return Err(malformed(
            "body length",
            format!("at most {}", MESSAGE_BYTES_MAX - PREFACE_BYTES),
            body_bytes,
        ));
    }
    Ok((rest[2], body_bytes as usize))
}

pub(super) fn kind_of(code: u8) -> Result<Kind, HandshakeError> {
    [Kind::Hello, Kind::Answer, Kind::Proof, Kind::Welcome, Kind::Refusal]
        .into_iter()
        .find(|kind| *kind as u8 == code)
        .ok_or_else(|| malformed("message kind", "1 to 5", code))
}

impl Hello {
    pub fn encode(&self, kind: Kind) -> Vec<u8> {
        let (id, name) = (&self.identity, self.identity.name.as_bytes());
        let mut body = Vec::with_capacity(HELLO_BYTES + name.len());
        body.extend_from_slice(&self.job);
        body.extend_from_slice(&id.node.to_le_bytes());
        body.extend_from_slice(&[id.role, carrier_code(self.request.carrier), name.len() as u8, 0]);
        body.extend_from_slice(&id.epoch.to_le_bytes());
        body.extend_from_slice(&self.request.purpose.to_le_bytes());
        body.extend_from_slice(&id.ring_bytes.to_le_bytes());
        body.extend_from_slice(&self.nonce);
        body.extend_from_slice(name);
        message(kind, &body)
    }

    pub fn decode(body: &[u8]) -> Result<Hello, HandshakeError> {
        if body.len() < HELLO_BYTES {
            return Err(malformed("hello length", format!("at least {HELLO_BYTES}"), body.len()));
        }
        let (fixed, name) = body.split_at(HELLO_BYTES);
        let word = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
        if fixed[22] as usize != name.len() {
            return Err(malformed("name length", name.len(), fixed[22]));
        }
        if fixed[23] != 0 {
            return Err(malformed("reserved byte of the hello", 0, fixed[23]));
        }
        let name = std::str::from_utf8(name).map_err(|error| malformed("name", "UTF-8", error))?;
        check_name(name).map_err(|(expected, got)| malformed("name", expected, got))?;
        Ok(Hello {
            job: fixed[..16].try_into().expect("sixteen bytes"),
            identity: Identity {
                node: word(16),
                role: fixed[20],
                name: name.to_owned(),
                epoch: word(24),
                ring_bytes: word(32),
            },
            request: Request { carrier: carrier_of(fixed[21])?, purpose: word(28) },
            nonce: fixed[36..68].try_into().expect("thirty-two bytes"),
        })
    }
}

fn carrier_code(carrier: CarrierKind) -> u8 {
    match carrier {
        CarrierKind::InProcess => 0,
        CarrierKind::Shm => 1,
        CarrierKind::Tcp => 2,
        CarrierKind::Verbs => 3,
    }
}

fn carrier_of(code: u8) -> Result<CarrierKind, HandshakeError> {
    [CarrierKind::InProcess, CarrierKind::Shm, CarrierKind::Tcp, CarrierKind::Verbs]
        .into_iter()
        .find(|carrier| carrier_code(*carrier) == code)
        .ok_or_else(|| malformed("carrier", "0 to 3", code))
}

const REFUSALS: [Refusal; 5] =
    [Refusal::Version, Refusal::Proof, Refusal::Job, Refusal::Carrier, Refusal::Malformed];

pub(super) fn encode_refusal(refusal: Refusal) -> Vec<u8> {
    let code = REFUSALS.iter().position(|r| *r == refusal).expect("every refusal is listed");
    message(Kind::Refusal, &[code as u8 + 1])
}

pub(super) fn decode_refusal(body: &[u8]) -> Result<Refusal, HandshakeError> {
    match body {
        [code] => REFUSALS
            .get((*code as usize).wrapping_sub(1))
            .copied()
            .ok_or_else(|| malformed("refusal", "1 to 5", code)),
        _ => Err(malformed("refusal length", 1, body.len())),
    }
}

/// The proof of `prover` over the exact bytes of both opening messages.
///
/// The key is a digest of the secret, because HMAC itself would take a secret and the same secret followed
/// by zero bytes for one key.
pub(super) fn proof(secret: &[u8], prover: Prover, hello: &[u8], answer: &[u8]) -> [u8; PROOF_BYTES] {
    let key = Sha256::new().chain_update(b"keyrange job secret\0").chain_update(secret).finalize();
    let label: &[u8; 16] = match prover {
        Prover::Initiator => b"initiator proof\0",
        Prover::Responder => b"responder proof\0",
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    // Each message carries its own length in its preface, so the concatenation is unambiguous.
    mac.update(label);
    mac.update(hello);
    mac.update(answer);
    mac.finalize().into_bytes().into()
}
