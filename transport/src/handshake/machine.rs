//! The two sides of the handshake as values: bytes in, bytes out; no socket, no clock, no random source.
//!
//! Drive either side so: send [`Side::take_output`], read at most [`Side::wanted_bytes`] bytes, hand them to
//! [`Side::feed`], repeat until [`Side::peer`] is some. After an error send what `take_output` still holds
//! (a refusal that tells the peer why), then hang up. A side never asks for a byte that belongs to what
//! follows the handshake.

use subtle::ConstantTimeEq;

use super::wire::{
    Hello, Kind, PREFACE_BYTES, PROOF_BYTES, Prover, check_local, decode_refusal, encode_refusal, kind_of,
    message, proof, read_preface,
};
use super::{Credentials, HandshakeError, Identity, Nonce, Peer, Refusal, Request};
use crate::link::CarrierKind;

/// What a driver needs of either side.
pub trait Side {
    /// Bytes to send now; empties the buffer.
    fn take_output(&mut self) -> Vec<u8>;
    /// How many bytes this side can take now: never beyond the current message, 0 once it is done or failed.
    fn wanted_bytes(&self) -> usize;
    /// Takes bytes from the peer, at most [`Side::wanted_bytes`]. After an error the side is spent.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError>;
    /// The proved peer, once done.
    fn peer(&self) -> Option<&Peer>;
    /// Bytes of the current message that came so far.
    fn received_bytes(&self) -> usize;
    /// The message that is due, in words.
    fn waiting_for(&self) -> &'static str;
}

/// Collects one message at a time, never more than [`super::MESSAGE_BYTES_MAX`] bytes.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    body_bytes: Option<usize>,
}

impl Inbox {
    fn due_bytes(&self) -> usize {
        PREFACE_BYTES + self.body_bytes.unwrap_or(0)
    }

    fn wanted_bytes(&self) -> usize {
        self.due_bytes() - self.bytes.len()
    }

    /// Takes bytes; a whole message comes back as its kind and all its bytes.
    fn feed(&mut self, mut input: &[u8]) -> Result<Option<(Kind, Vec<u8>)>, HandshakeError> {
        while !input.is_empty() {
            let (now, rest) = input.split_at(input.len().min(self.wanted_bytes()));
            self.bytes.extend_from_slice(now);
            input = rest;
            if self.wanted_bytes() > 0 {
                break;
            }
            if self.body_bytes.is_none() {
                let preface = self.bytes[..].try_into().expect("a whole preface");
                let (kind, body_bytes) = read_preface(preface)?;
                kind_of(kind)?;
                self.body_bytes = Some(body_bytes);
            }
            if self.wanted_bytes() == 0 {
                if !input.is_empty() {
                    return Err(HandshakeError::Malformed {
                        field: "input",
                        expected: "one message at a time".into(),
                        got: format!("{} bytes more", input.len()),
                    });
                }
                self.body_bytes = None;
                let bytes = std::mem::take(&mut self.bytes);
                return Ok(Some((kind_of(bytes[10])?, bytes)));
            }
        }
        Ok(None)
    }
}

fn unexpected(expected: Kind, got: Kind) -> HandshakeError {
    HandshakeError::Malformed {
        field: "message kind",
        expected: format!("{expected:?}"),
        got: format!("{got:?}"),
    }
}

fn same_proof(expected: &[u8; PROOF_BYTES], got: &[u8]) -> bool {
    got.len() == PROOF_BYTES && bool::from(expected.ct_eq(got))
}

#[derive(Debug)]
enum InitiatorState {
    AwaitAnswer,
    AwaitWelcome { answer: Vec<u8>, peer: Peer },
    Done(Peer),
    Failed,
}

/// The side that connected.
#[derive(Debug)]
pub struct Initiator {
    credentials: Credentials,
    opening: Hello,
    hello: Vec<u8>,
    output: Vec<u8>,
    inbox: Inbox,
    state: InitiatorState,
}

impl Initiator {
    /// Starts a handshake; the output holds the Hello. `nonce` must be fresh from a cryptographic source.
    pub fn new(
        credentials: Credentials,
        identity: Identity,
        request: Request,
        nonce: Nonce,
    ) -> Result<Self, HandshakeError> {
        check_local(&identity)?;
        let opening = Hello { job: credentials.job, identity, request, nonce };
        let hello = opening.encode(Kind::Hello);
        let output = hello.clone();
        Ok(Initiator {
            credentials,
            opening,
            hello,
            output,
            inbox: Inbox::default(),
            state: InitiatorState::AwaitAnswer,
        })
    }

    fn refused(&self, refusal: Refusal) -> HandshakeError {
        match refusal {
            Refusal::Proof => HandshakeError::WrongSecret,
            Refusal::Job => HandshakeError::WrongJob { ours: self.credentials.job },
            Refusal::Carrier => HandshakeError::WrongCarrier { wanted: self.opening.request.carrier },
            // A version refusal with our own version in its preface is nonsense.
            Refusal::Malformed | Refusal::Version => HandshakeError::RefusedAsMalformed,
        }
    }

    fn step(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<InitiatorState, HandshakeError> {
        let body = &bytes[PREFACE_BYTES..];
        if kind == Kind::Refusal {
            return Err(self.refused(decode_refusal(body)?));
        }
        match std::mem::replace(&mut self.state, InitiatorState::Failed) {
            InitiatorState::AwaitAnswer if kind == Kind::Answer => {
                let answer = Hello::decode(body)?;
                if answer.job != self.opening.job || answer.request != self.opening.request {
                    return Err(HandshakeError::Malformed {
                        field: "answer",
                        expected: format!("our job and request echoed ({:?})", self.opening.request),
                        got: format!("{:?}", answer.request),
                    });
                }
                let own = proof(&self.credentials.secret, Prover::Initiator, &self.hello, &bytes);
                self.output.extend_from_slice(&message(Kind::Proof, &own));
                let peer = Peer { identity: answer.identity, request: answer.request };
                Ok(InitiatorState::AwaitWelcome { answer: bytes, peer })
            }
            InitiatorState::AwaitWelcome { answer, peer } if kind == Kind::Welcome => {
                let expected = proof(&self.credentials.secret, Prover::Responder, &self.hello, &answer);
                if !same_proof(&expected, body) {
                    return Err(HandshakeError::WrongSecret);
                }
                Ok(InitiatorState::Done(peer))
            }
            InitiatorState::AwaitAnswer => Err(unexpected(Kind::Answer, kind)),
            _ => Err(unexpected(Kind::Welcome, kind)),
        }
    }
}

impl Side for Initiator {
    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn wanted_bytes(&self) -> usize {
        match self.state {
            InitiatorState::Done(_) | InitiatorState::Failed => 0,
            _ => self.inbox.wanted_bytes(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let result = match self.inbox.feed(bytes) {
            Ok(None) => return Ok(()),
            Ok(Some((kind, bytes))) => self.step(kind, bytes),
            Err(error) => Err(error),
        };
        match result {
            Ok(state) => {
                self.state = state;
                Ok(())
            }
            Err(error) => {
                self.state = InitiatorState::Failed;
                Err(error)
            }
        }
    }

    fn peer(&self) -> Option<&Peer> {
        match &self.state {
            InitiatorState::Done(peer) => Some(peer),
            _ => None,
        }
    }

    fn received_bytes(&self) -> usize {
        self.inbox.bytes.len()
    }

    fn waiting_for(&self) -> &'static str {
        match self.state {
            InitiatorState::AwaitAnswer => "answer",
            _ => "welcome",
        }
    }
}

#[derive(Debug)]
enum ResponderState {
    AwaitHello,
    AwaitProof { hello: Vec<u8>, answer: Vec<u8>, opening: Hello },
    Done(Peer),
    Failed,
}

/// The side that accepted the connection.
#[derive(Debug)]
pub struct Responder {
    credentials: Credentials,
    identity: Identity,
    served: Vec<CarrierKind>,
    nonce: Nonce,
    output: Vec<u8>,
    inbox: Inbox,
    state: ResponderState,
}

impl Responder {
    /// Waits for a Hello. `served` are the carriers that may be asked for on this socket; `nonce` must be
    /// fresh from a cryptographic source.
    pub fn new(
        credentials: Credentials,
        identity: Identity,
        served: &[CarrierKind],
        nonce: Nonce,
    ) -> Result<Self, HandshakeError> {
        check_local(&identity)?;
        Ok(Responder {
            credentials,
            identity,
            served: served.to_vec(),
            nonce,
            output: Vec::new(),
            inbox: Inbox::default(),
            state: ResponderState::AwaitHello,
        })
    }

    /// Answers every well-formed Hello alike, whatever its job.
    fn answer(&mut self, hello: Vec<u8>) -> Result<ResponderState, HandshakeError> {
        let opening = Hello::decode(&hello[PREFACE_BYTES..])?;
        let answer = Hello {
            job: opening.job,
            identity: self.identity.clone(),
            request: opening.request,
            nonce: self.nonce,
        }
        .encode(Kind::Answer);
        self.output.extend_from_slice(&answer);
        Ok(ResponderState::AwaitProof { hello, answer, opening })
    }

    /// Checks the proof first; only a peer that passed it learns anything else.
    fn judge(
        &mut self,
        body: &[u8],
        hello: &[u8],
        answer: &[u8],
        opening: Hello,
    ) -> Result<ResponderState, HandshakeError> {
        let secret = &self.credentials.secret;
        if !same_proof(&proof(secret, Prover::Initiator, hello, answer), body) {
            return Err(HandshakeError::WrongSecret);
        }
        if opening.job != self.credentials.job {
            return Err(HandshakeError::WrongJob { ours: self.credentials.job });
        }
        let wanted = opening.request.carrier;
        if !self.served.contains(&wanted) {
            return Err(HandshakeError::WrongCarrier { wanted });
        }
        let own = proof(secret, Prover::Responder, hello, answer);
        self.output.extend_from_slice(&message(Kind::Welcome, &own));
        Ok(ResponderState::Done(Peer { identity: opening.identity, request: opening.request }))
    }

    fn step(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<ResponderState, HandshakeError> {
        match std::mem::replace(&mut self.state, ResponderState::Failed) {
            ResponderState::AwaitHello if kind == Kind::Hello => self.answer(bytes),
            ResponderState::AwaitProof { hello, answer, opening } if kind == Kind::Proof => {
                self.judge(&bytes[PREFACE_BYTES..], &hello, &answer, opening)
            }
            ResponderState::AwaitHello => Err(unexpected(Kind::Hello, kind)),
            _ => Err(unexpected(Kind::Proof, kind)),
        }
    }
}

/// What the peer is told about an error; nothing when it does not speak this protocol at all.
fn refusal_for(error: &HandshakeError) -> Option<Refusal> {
    match error {
        HandshakeError::WrongVersion { .. } => Some(Refusal::Version),
        HandshakeError::WrongSecret => Some(Refusal::Proof),
        HandshakeError::WrongJob { .. } => Some(Refusal::Job),
        HandshakeError::WrongCarrier { .. } => Some(Refusal::Carrier),
        HandshakeError::Malformed { .. } => Some(Refusal::Malformed),
        _ => None,
    }
}

impl Side for Responder {
    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn wanted_bytes(&self) -> usize {
        match self.state {
            ResponderState::Done(_) | ResponderState::Failed => 0,
            _ => self.inbox.wanted_bytes(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let result = match self.inbox.feed(bytes) {
            Ok(None) => return Ok(()),
            Ok(Some((kind, bytes))) => self.step(kind, bytes),
            Err(error) => Err(error),
        };
        match result {
            Ok(state) => {
                self.state = state;
                Ok(())
            }
            Err(error) => {
                self.state = ResponderState::Failed;
                self.output.extend(refusal_for(&error).map(encode_refusal).into_iter().flatten());
                Err(error)
            }
        }
    }

    fn peer(&self) -> Option<&Peer> {
        match &self.state {
            ResponderState::Done(peer) => Some(peer),
            _ => None,
        }
    }

    fn received_bytes(&self) -> usize {
        self.inbox.bytes.len()
    }

    fn waiting_for(&self) -> &'static str {
        match self.state {
            ResponderState::AwaitHello => "hello",
            _ => "proof",
        }
    }
}
