//! The answer of a call.

use std::sync::Arc;

/// Bytes that somebody else owns, given back when the last answer that names them is gone.
pub type Kept = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// What a call answers: bytes of its own, and behind them bytes that are sent from where they lie. Those must stay as they are
/// until they are given back; a few answers are kept for workers that ask again.
#[derive(Clone, Default)]
pub struct Answer {
    /// The answer's own bytes.
    pub own: Vec<u8>,
    /// What follows them.
    pub kept: Option<Kept>,
}

impl Answer {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.own.len() + self.tail().len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that lie elsewhere.
    pub fn tail(&self) -> &[u8] {
        self.kept.as_deref().map_or(&[], AsRef::as_ref)
    }

    /// All in one.
    pub fn into_bytes(mut self) -> Vec<u8> {
        if let Some(kept) = self.kept.take() {
            self.own.extend_from_slice((*kept).as_ref());
        }
        self.own
    }
}

impl From<Vec<u8>> for Answer {
    fn from(own: Vec<u8>) -> Answer {
        Answer { own, kept: None }
    }
}
