//! Arbitrary bytes against both sides of the handshake: nobody passes without the secret, nobody panics, and
//! nobody asks for more than one message.
#![no_main]

use keyrange_transport::handshake::{
    Credentials, Identity, Initiator, MESSAGE_BYTES_MAX, Request, Responder, Side,
};
use keyrange_transport::link::CarrierKind;
use libfuzzer_sys::fuzz_target;

fn attack(mut side: impl Side, data: &[u8]) {
    let mut rest = data;
    while !rest.is_empty() && side.wanted_bytes() > 0 {
        assert!(side.wanted_bytes() <= MESSAGE_BYTES_MAX);
        // Both a whole message at once and a byte at a time are met, as the input has it.
        let len = side.wanted_bytes().min(rest.len()).min(1 + usize::from(rest[0]));
        let (now, later) = rest.split_at(len);
        rest = later;
        if side.feed(now).is_err() {
            assert_eq!(side.wanted_bytes(), 0);
        }
        assert!(side.take_output().len() <= MESSAGE_BYTES_MAX);
    }
    assert!(side.peer().is_none(), "passed without the secret");
}

fuzz_target!(|data: &[u8]| {
    let credentials = Credentials { job: [1; 16], secret: b"a secret of the fuzz target".to_vec() };
    let identity = Identity { node: 1, role: 1, name: "n".into(), epoch: 1, ring_bytes: 1 << 20 };
    let request = Request { carrier: CarrierKind::Tcp, purpose: 1 };
    let initiator = Initiator::new(credentials.clone(), identity.clone(), request, [2; 32]);
    attack(initiator.expect("a good identity"), data);
    let responder = Responder::new(credentials, identity, &[CarrierKind::Tcp], [3; 32]);
    attack(responder.expect("a good identity"), data);
});
