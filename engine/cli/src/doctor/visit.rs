//! The conversation of two doctors: the handshake of a job's nodes, what each machine has, an echo, and where both can a link over
//! verbs, tried. The one who calls is the visitor; every step is answered before the next, and all of it has a deadline.
//!
//! ```text
//!   visitor                     host
//!     facts, a JSON line  ─►
//!                         ◄─  facts, a JSON line
//!     64 bytes            ─►
//!                         ◄─  the same           100 times
//!     then, if both can: a link over verbs on the same socket, and an echo of frames over it
//! ```

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use keyrange::manager::bell::{poll_for, readable};
use keyrange::manager::door::Purpose;
use keyrange::manager::line::{Filled, LineReader, encode};
use keyrange::manager::stream::{Listener, Stream};
use keyrange::manager::{Address, Door, Role};
use keyrange_transport::link::{Link, LinkEnd, SendError};
use keyrange_transport::verbs::{self, Device, Selection, VerbsConfig};
use rustix::event::{PollFd, PollFlags};

use super::pair::{Facts, shall_try_verbs};

/// Echoes over the socket, and over a link.
const ROUNDS: usize = 100;
const ECHO_BYTES: usize = 64;

/// The other side has this long for all of the conversation.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a conversation brought out.
#[derive(Debug)]
pub struct Visit {
    /// How long connecting took.
    pub connect: Duration,
    /// The other machine; none if somebody of the job answered who is no doctor.
    pub theirs: Option<Facts>,
    /// The echoes over the socket, in ascending order (the host's side has none).
    pub echoes: Vec<Duration>,
    /// The link over verbs if it was tried: its echoes, or why it failed.
    pub verbs: Option<Result<Vec<Duration>, String>>,
}

/// Calls the doctor, or any node of the job, at `address`. The error is for people.
pub fn visit(address: &Address, door: &Door, mine: &Facts, wait: Duration) -> Result<Visit, String> {
    let began = Instant::now();
    let mut stream = Stream::connect(address, began + wait).map_err(|error| error.to_string())?;
    let (connect, deadline) = (began.elapsed(), Instant::now() + PATIENCE);
    stream.set_write_timeout(PATIENCE).map_err(|error| error.to_string())?;
    door.enter(&stream, Err(Role::Worker), Purpose::Examination, 0, false, deadline)
        .map_err(|error| error.to_string())?;
    let mut visit = Visit { connect, theirs: None, echoes: Vec::new(), verbs: None };
    // Whoever hangs up now has proved to be of this job, and that it is no doctor.
    if tell(&mut stream, mine).is_err() {
        return Ok(visit);
    }
    let Some(theirs) = hear(&mut stream, deadline)? else { return Ok(visit) };
    visit.echoes = sorted((0..ROUNDS).map(|_| call(&mut stream, deadline)).collect::<Result<_, _>>()?);
    if shall_try_verbs(mine, &theirs) {
        visit.verbs = Some(try_verbs(stream, deadline, call_link).map(sorted));
    }
    visit.theirs = Some(theirs);
    Ok(visit)
}

/// Waits at `listener` until a doctor came. Who is turned away is told to `turned_away`.
pub fn receive(
    listener: &Listener,
    door: &Door,
    mine: &Facts,
    wait: Duration,
    turned_away: &dyn Fn(&str),
) -> Result<(String, Visit), String> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no doctor came within {wait:?}"));
        }
        let mut fds = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
        poll_for(&mut fds, left).map_err(|error| error.to_string())?;
        if !readable(&fds[0]) {
            continue;
        }
        let stream = match listener.accept() {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.to_string()),
        };
        let peer = stream.peer();
        match host(stream, door, mine) {
            Ok(visit) => return Ok((peer, visit)),
            Err(error) => turned_away(&format!("{peer}: {error}")),
        }
    }
}

/// The other side of [`visit`].
fn host(mut stream: Stream, door: &Door, mine: &Facts) -> Result<Visit, String> {
    let (began, deadline) = (Instant::now(), Instant::now() + PATIENCE);
    stream.set_write_timeout(PATIENCE).map_err(|error| error.to_string())?;
    let visitor = door.admit(&stream, None, 0, false, deadline).map_err(|error| error.to_string())?;
    if visitor.purpose != Purpose::Examination {
        return Err("a node of a job: this is a doctor, no manager".into());
    }
    let theirs = hear(&mut stream, deadline)?.ok_or("it hung up")?;
    tell(&mut stream, mine).map_err(|error| error.to_string())?;
    for _ in 0..ROUNDS {
        let echo = take(&mut stream, deadline)?;
        stream.write_all(&echo).map_err(|error| error.to_string())?;
    }
    let verbs =
        shall_try_verbs(mine, &theirs).then(|| try_verbs(stream, deadline, echo_link).map(|()| Vec::new()));
    Ok(Visit { connect: began.elapsed(), theirs: Some(theirs), echoes: Vec::new(), verbs })
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort_unstable();
    times
}

fn tell(stream: &mut Stream, facts: &Facts) -> io::Result<()> {
    stream.write_all(&encode(facts).map_err(io::Error::other)?)
}

/// The other side's line; `None` if it hangs up instead.
fn hear(stream: &mut Stream, deadline: Instant) -> Result<Option<Facts>, String> {
    let mut reader = LineReader::default();
    loop {
        if let Some(facts) = reader.next_message().map_err(|error| error.to_string())? {
            return Ok(Some(facts));
        }
        await_bytes(stream, deadline)?;
        match reader.fill(stream) {
            Ok(Filled::End) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Sends a block and takes it back.
fn call(stream: &mut Stream, deadline: Instant) -> Result<Duration, String> {
    let began = Instant::now();
    stream.write_all(&[7; ECHO_BYTES]).map_err(|error| error.to_string())?;
    take(stream, deadline)?;
    Ok(began.elapsed())
}

fn take(stream: &mut Stream, deadline: Instant) -> Result<[u8; ECHO_BYTES], String> {
    let (mut block, mut got) = ([0; ECHO_BYTES], 0);
    while got < ECHO_BYTES {
        await_bytes(stream, deadline)?;
        match stream.read(&mut block[got..]).map_err(|error| error.to_string())? {
            0 => return Err("it hung up in the middle".into()),
            bytes => got += bytes,
        }
    }
    Ok(block)
}

/// Until the stream can be read, or the deadline has passed.
fn await_bytes(stream: &Stream, deadline: Instant) -> Result<(), String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("it said nothing more within {PATIENCE:?}"));
        }
        let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
        poll_for(&mut fds, left).map_err(|error| error.to_string())?;
        if readable(&fds[0]) {
            return Ok(());
        }
    }
}

/// Makes a link over verbs of the connection and lets `talk` use it.
fn try_verbs<T>(
    stream: Stream,
    deadline: Instant,
    talk: fn(&mut dyn Link, Instant) -> Result<T, LinkEnd>,
) -> Result<T, String> {
    let device = Device::open(&Selection::default()).map_err(|error| error.to_string())?;
    let mut link = verbs::connect(OwnedFd::from(stream), &device, &VerbsConfig::default())
        .map_err(|error| error.to_string())?;
    let result = talk(&mut link, deadline).map_err(|end| end.to_string());
    link.close();
    result
}

/// The visitor's part over a link: sends frames and takes them back.
fn call_link(link: &mut dyn Link, deadline: Instant) -> Result<Vec<Duration>, LinkEnd> {
    let one = |link: &mut dyn Link| {
        let began = Instant::now();
        send_frame(link, deadline)?;
        take_frame(link, deadline)?;
        Ok(began.elapsed())
    };
    (0..ROUNDS).map(|_| one(link)).collect()
}

/// The host's part: each frame goes back.
fn echo_link(link: &mut dyn Link, deadline: Instant) -> Result<(), LinkEnd> {
    for _ in 0..ROUNDS {
        take_frame(link, deadline)?;
        send_frame(link, deadline)?;
    }
    // The visitor closes once it has the last echo.
    while link.progress().is_ok() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    Ok(())
}

fn send_frame(link: &mut dyn Link, deadline: Instant) -> Result<(), LinkEnd> {
    loop {
        match link.try_send(0, &[IoSlice::new(&[7; ECHO_BYTES])]) {
            Ok(()) => return Ok(()),
            Err(SendError::Ended(end)) => return Err(end),
            Err(SendError::Full | SendError::TooLarge { .. }) => link.progress()?,
        }
        check(deadline)?;
    }
}

fn take_frame(link: &mut dyn Link, deadline: Instant) -> Result<(), LinkEnd> {
    loop {
        link.progress()?;
        if let Some(frame) = link.try_recv()? {
            link.release(frame);
            return Ok(());
        }
        check(deadline)?;
        std::thread::yield_now();
    }
}

fn check(deadline: Instant) -> Result<(), LinkEnd> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(LinkEnd::PeerGone(format!(
        "no frame came within {PATIENCE:?}; do UDP packets to port 4791 pass the firewall?"
    )))
}
