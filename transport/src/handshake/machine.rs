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

/// How far a side has come.
#[derive(Debug, Default)]
enum Progress {
    #[default]
    Open,
    Done(Peer),
    Failed,
}

/// What both sides have: bytes that come, bytes to send, and how far it is.
#[derive(Debug, Default)]
struct Talk {
    inbox: Inbox,
    output: Vec<u8>,
    progress: Progress,
}

/// What differs between the sides; all else is in `impl Side` below.
trait Steps {
    fn talk(&self) -> &Talk;
    fn talk_mut(&mut self) -> &mut Talk;
    /// Takes a whole message; the peer comes with the last one.
    fn step(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<Option<Peer>, HandshakeError>;
    /// What the peer is told about an error.
    fn refusal_for(error: &HandshakeError) -> Option<Refusal>;
    fn due(&self) -> &'static str;
}

impl<S: Steps> Side for S {
    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.talk_mut().output)
    }

    fn wanted_bytes(&self) -> usize {
        match self.talk().progress {
            Progress::Open => self.talk().inbox.wanted_bytes(),
            Progress::Done(_) | Progress::Failed => 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let message = self.talk_mut().inbox.feed(bytes);
        let stepped = message.and_then(|message| match message {
            Some((kind, bytes)) => self.step(kind, bytes),
            None => Ok(None),
        });
        let talk = self.talk_mut();
        match stepped {
            Ok(None) => Ok(()),
            Ok(Some(peer)) => {
                talk.progress = Progress::Done(peer);
                Ok(())
            }
            Err(error) => {
                talk.progress = Progress::Failed;
                talk.output.extend(S::refusal_for(&error).map(encode_refusal).into_iter().flatten());
                Err(error)
            }
        }
    }

    fn peer(&self) -> Option<&Peer> {
        match &self.talk().progress {
            Progress::Done(peer) => Some(peer),
            Progress::Open | Progress::Failed => None,
        }
    }

    fn received_bytes(&self) -> usize {
        self.talk().inbox.bytes.len()
    }

    fn waiting_for(&self) -> &'static str {
        self.due()
    }
}

/// The side that connected.
#[derive(Debug)]
pub struct Initiator {
    credentials: Credentials,
    opening: Hello,
    hello: Vec<u8>,
    /// The peer's answer and what it says of the peer, which the welcome is to prove.
    answered: Option<(Vec<u8>, Peer)>,
    talk: Talk,
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
        let talk = Talk { output: hello.clone(), ..Talk::default() };
        Ok(Initiator { credentials, opening, hello, answered: None, talk })
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
}

impl Steps for Initiator {
    fn talk(&self) -> &Talk {
        &self.talk
    }

    fn talk_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }

    fn step(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<Option<Peer>, HandshakeError> {
        let body = &bytes[PREFACE_BYTES..];
        if kind == Kind::Refusal {
            return Err(self.refused(decode_refusal(body)?));
        }
        match self.answered.take() {
            None if kind == Kind::Answer => {
                let answer = Hello::decode(body)?;
                if answer.job != self.opening.job || answer.request != self.opening.request {
                    return Err(HandshakeError::Malformed {
                        field: "answer",
                        expected: format!("our job and request echoed ({:?})", self.opening.request),
                        got: format!("{:?}", answer.request),
                    });
                }
                let own = proof(&self.credentials.secret, Prover::Initiator, &self.hello, &bytes);
                self.talk.output.extend_from_slice(&message(Kind::Proof, &own));
                let peer = Peer { identity: answer.identity, request: answer.request };
                self.answered = Some((bytes, peer));
                Ok(None)
            }
            Some((answer, peer)) if kind == Kind::Welcome => {
                let expected = proof(&self.credentials.secret, Prover::Responder, &self.hello, &answer);
                if same_proof(&expected, body) { Ok(Some(peer)) } else { Err(HandshakeError::WrongSecret) }
            }
            None => Err(unexpected(Kind::Answer, kind)),
            Some(_) => Err(unexpected(Kind::Welcome, kind)),
        }
    }

    /// The responder keeps no state that an explanation could help.
    fn refusal_for(_: &HandshakeError) -> Option<Refusal> {
        None
    }

    fn due(&self) -> &'static str {
        if self.answered.is_none() { "answer" } else { "welcome" }
    }
}

/// What the responder was told and answered, which the proof is to cover.
#[derive(Debug)]
struct Exchange {
    hello: Vec<u8>,
    answer: Vec<u8>,
    opening: Hello,
}

/// The side that accepted the connection.
#[derive(Debug)]
pub struct Responder {
    credentials: Credentials,
    identity: Identity,
    served: Vec<CarrierKind>,
    nonce: Nonce,
    exchange: Option<Exchange>,
    talk: Talk,
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
        let served = served.to_vec();
        Ok(Responder { credentials, identity, served, nonce, exchange: None, talk: Talk::default() })
    }

    /// Answers every well-formed Hello alike, whatever its job.
    fn answer(&mut self, hello: Vec<u8>) -> Result<(), HandshakeError> {
        let opening = Hello::decode(&hello[PREFACE_BYTES..])?;
        let answer = Hello {
            job: opening.job,
            identity: self.identity.clone(),
            request: opening.request,
            nonce: self.nonce,
        }
        .encode(Kind::Answer);
        self.talk.output.extend_from_slice(&answer);
        self.exchange = Some(Exchange { hello, answer, opening });
        Ok(())
    }

    /// Checks the proof first; only a peer that passed it learns anything else.
    fn judge(&mut self, body: &[u8], exchange: Exchange) -> Result<Peer, HandshakeError> {
        let Exchange { hello, answer, opening } = exchange;
        let secret = &self.credentials.secret;
        if !same_proof(&proof(secret, Prover::Initiator, &hello, &answer), body) {
            return Err(HandshakeError::WrongSecret);
        }
        if opening.job != self.credentials.job {
            return Err(HandshakeError::WrongJob { ours: self.credentials.job });
        }
        let wanted = opening.request.carrier;
        if !self.served.contains(&wanted) {
            return Err(HandshakeError::WrongCarrier { wanted });
        }
        let own = proof(secret, Prover::Responder, &hello, &answer);
        self.talk.output.extend_from_slice(&message(Kind::Welcome, &own));
        Ok(Peer { identity: opening.identity, request: opening.request })
    }
}

impl Steps for Responder {
    fn talk(&self) -> &Talk {
        &self.talk
    }

    fn talk_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }

    fn step(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<Option<Peer>, HandshakeError> {
        match self.exchange.take() {
            None if kind == Kind::Hello => self.answer(bytes).map(|()| None),
            Some(exchange) if kind == Kind::Proof => self.judge(&bytes[PREFACE_BYTES..], exchange).map(Some),
            None => Err(unexpected(Kind::Hello, kind)),
            Some(_) => Err(unexpected(Kind::Proof, kind)),
        }
    }

    /// Nothing when the peer does not speak this protocol at all.
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

    fn due(&self) -> &'static str {
        if self.exchange.is_none() { "hello" } else { "proof" }
    }
}
