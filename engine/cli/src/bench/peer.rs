//! The other side of a measurement: a second process of this program, or a thread.
//!
//! The measuring side makes every socket as a connected pair and hands one end down, so nothing listens and nobody else can
//! come in: standard input is the link's socket (shm bootstraps over it, tcp uses it), standard output the control socket. A
//! turn goes down the control socket, one byte comes back when the peer spins, then the peer's CPU time when it is done.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use keyrange_transport::in_process;
use keyrange_transport::link::Link;
use keyrange_transport::shm::{self, RingConfig, ShmLink};
use keyrange_transport::tcp::{TcpConfig, TcpLink};
use keyrange_transport::verbs::{self, Device, VerbsConfig, VerbsLink};

use super::limits::{pin, tcp_pair};
use super::options::LinkCarrier;
use super::push_pull::NodeRole;
use super::turn::{Turn, answer};
use crate::failure::Failure;
use crate::verbs_options::VerbsArgs;

/// The peer answers on the control socket within this time, turns included.
pub const CONTROL_PATIENCE: Duration = Duration::from_secs(120);

/// A peer whose control socket closed ends within this time.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of the hidden `bench peer`.
#[derive(Args)]
pub struct PeerArgs {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// The other end of a link
    Link {
        #[arg(long)]
        carrier: LinkCarrier,
        #[arg(long)]
        ring_bytes: usize,
        #[arg(long)]
        core: usize,
        #[arg(long)]
        bare: bool,
        #[command(flatten)]
        verbs: VerbsArgs,
    },
    /// The server of push-pull
    Server(NodeRole),
    /// A further worker of push-pull
    Worker(NodeRole),
}

/// The second process: does what it is told until the control socket closes.
pub fn serve(args: &PeerArgs) -> anyhow::Result<()> {
    let (carrier, ring_bytes, bare, verbs) = match &args.role {
        Role::Server(role) => return super::push_pull::serve(role),
        Role::Worker(role) => return super::push_pull::work(role),
        &Role::Link { carrier, ring_bytes, core, bare, ref verbs } => {
            pin(core).with_context(|| format!("pinning the peer to core {core}"))?;
            (carrier, ring_bytes, bare, verbs)
        }
    };
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("taking over the link's socket")?;
    let control = std::io::stdout().as_fd().try_clone_to_owned().context("taking over the control socket")?;
    let control = UnixStream::from(control);
    match (carrier, bare) {
        (LinkCarrier::Tcp, _) => obey(tcp_link(socket.into(), ring_bytes)?.as_mut(), control),
        (LinkCarrier::Verbs, _) => obey::<dyn Link>(&mut verbs_link(socket, verbs, ring_bytes)?, control),
        (_, true) => obey(&mut shm_link(socket, ring_bytes)?, control),
        (_, false) => obey::<dyn Link>(&mut shm_link(socket, ring_bytes)?, control),
    }
}

fn shm_link(socket: OwnedFd, ring_bytes: usize) -> anyhow::Result<ShmLink> {
    Ok(shm::connect(socket, RingConfig { ring_bytes, ..RingConfig::default() })?)
}

fn tcp_link(socket: TcpStream, ring_bytes: usize) -> anyhow::Result<Box<dyn Link>> {
    let config = TcpConfig { ring_bytes, peer_ring_bytes: ring_bytes, ..TcpConfig::default() };
    Ok(Box::new(TcpLink::new(socket, &config)?))
}

fn verbs_link(socket: OwnedFd, choice: &VerbsArgs, ring_bytes: usize) -> anyhow::Result<VerbsLink> {
    let opened = Device::open(&choice.selection());
    let device = opened.map_err(|error| Failure::input(format!("--carrier verbs: {error}")))?;
    Ok(verbs::connect(socket, &device, &VerbsConfig { ring_bytes, ..VerbsConfig::default() })?)
}

/// Takes turns until the control socket closes.
fn obey<L: Link + ?Sized>(link: &mut L, mut control: UnixStream) -> anyhow::Result<()> {
    loop {
        let mut wire = [0; Turn::WIRE_BYTES];
        match control.read_exact(&mut wire) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            result => result.context("reading the next turn")?,
        }
        control.write_all(&[1])?;
        let cpu = answer(link, Turn::from_bytes(&wire))?;
        control.write_all(&(cpu.as_nanos() as u64).to_le_bytes())?;
    }
    link.close();
    Ok(())
}

/// The peer as the measuring side sees it.
pub struct Peer {
    control: UnixStream,
    runs: Option<Runs>,
}

enum Runs {
    Process(Child),
    Thread(JoinHandle<anyhow::Result<()>>),
}

/// A link with a peer at its other end, waiting for turns on `core`.
pub fn open(
    carrier: LinkCarrier,
    verbs: &VerbsArgs,
    ring_bytes: usize,
    core: usize,
) -> anyhow::Result<(Box<dyn Link>, Peer)> {
    match carrier {
        LinkCarrier::InProcess => {
            let (near, mut far) = in_process::pair(RingConfig { ring_bytes, ..RingConfig::default() })?;
            let (control, theirs) = UnixStream::pair().context("making a control socket")?;
            let thread = std::thread::spawn(move || {
                pin(core).with_context(|| format!("pinning the peer to core {core}"))?;
                obey::<dyn Link>(&mut far, theirs)
            });
            Ok((Box::new(near), Peer::new(control, Runs::Thread(thread))?))
        }
        LinkCarrier::Shm => {
            let (link, peer) = open_ring(ring_bytes, core, false)?;
            Ok((Box::new(link), peer))
        }
        LinkCarrier::Tcp => {
            let (near, far) = tcp_pair().context("connecting two sockets")?;
            let peer = Peer::start(LinkCarrier::Tcp, ring_bytes, core, &[], far.into())?;
            Ok((tcp_link(near, ring_bytes)?, peer))
        }
        LinkCarrier::Verbs => {
            let (near, far) = UnixStream::pair().context("making a link's socket")?;
            let options = verbs.arguments();
            let peer = Peer::start(LinkCarrier::Verbs, ring_bytes, core, &options, far.into())?;
            Ok((Box::new(verbs_link(near.into(), verbs, ring_bytes)?), peer))
        }
    }
}

/// A ring with a second process at its other end. `bare`: that process also calls the ring's own type.
pub fn open_ring(ring_bytes: usize, core: usize, bare: bool) -> anyhow::Result<(ShmLink, Peer)> {
    let (near, far) = UnixStream::pair().context("making a link's socket")?;
    let bare_option = ["--bare".to_owned()];
    let options = if bare { &bare_option[..] } else { &[] };
    let peer = Peer::start(LinkCarrier::Shm, ring_bytes, core, options, far.into())?;
    Ok((shm_link(near.into(), ring_bytes)?, peer))
}

impl Peer {
    fn new(control: UnixStream, runs: Runs) -> anyhow::Result<Peer> {
        control.set_read_timeout(Some(CONTROL_PATIENCE))?;
        Ok(Peer { control, runs: Some(runs) })
    }

    fn start(
        carrier: LinkCarrier,
        ring_bytes: usize,
        core: usize,
        options: &[String],
        socket: OwnedFd,
    ) -> anyhow::Result<Peer> {
        let (control, theirs) = UnixStream::pair().context("making a control socket")?;
        let carrier = match carrier {
            LinkCarrier::Tcp => "tcp",
            LinkCarrier::Verbs => "verbs",
            LinkCarrier::Shm | LinkCarrier::InProcess => "shm",
        };
        let (ring_bytes, core) = (ring_bytes.to_string(), core.to_string());
        let mut command = this_program()?;
        command.args(["peer", "link", "--carrier", carrier, "--ring-bytes", &ring_bytes, "--core", &core]);
        command.args(options);
        let child = command
            .stdin(Stdio::from(socket))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .context("starting the second process")?;
        Peer::new(control, Runs::Process(child))
    }

    /// Begins a turn: the peer has read it and is about to spin.
    pub fn begin(&mut self, turn: Turn) -> anyhow::Result<()> {
        self.control.write_all(&turn.to_bytes()).context("telling the peer its turn")?;
        self.read::<1>().map(drop)
    }

    /// The CPU time the peer used in the turn that has just ended.
    pub fn finish_turn(&mut self) -> anyhow::Result<Duration> {
        Ok(Duration::from_nanos(u64::from_le_bytes(self.read()?)))
    }

    fn read<const BYTES: usize>(&mut self) -> anyhow::Result<[u8; BYTES]> {
        let mut bytes = [0; BYTES];
        match self.control.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                bail!("the peer ended in the middle of a measurement")
            }
            Err(error) => Err(error).context("hearing from the peer"),
        }
    }

    /// Ends the peer in good order. The link must still be there, so that the peer can close it.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.control.shutdown(std::net::Shutdown::Both)?;
        match self.runs.take() {
            Some(Runs::Process(mut child)) => wait(&mut child, EXIT_PATIENCE),
            Some(Runs::Thread(thread)) => {
                thread.join().unwrap_or_else(|_| bail!("the peer's thread panicked"))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(Runs::Process(child)) = &mut self.runs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// This program again, at `bench`.
pub fn this_program() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.arg("bench");
    Ok(command)
}

/// Waits for a process to end well; kills it when it does not end in time.
pub fn wait(child: &mut Child, patience: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the second process ended with {status}");
            return Ok(());
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            bail!("the second process did not end within {patience:?} and was killed");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
