//! The manager as a value: lines in, lines and events out; no I/O, no clock, no threads.
//!
//! ```text
//! Joining ──all registered──► Linking ──all ready──► Running ──all workers finished──► Stopping ──► Ended
//!    └──────── a deadline passed, a node died, a node failed, the launcher said so ──────────────────► Ended
//! ```
//! Whatever goes wrong is one transition, [`ManagerCore::abort`]: everybody hears the same reason once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::host::HostFingerprint;
use super::message::{
    FromManager, NAME_BYTES_MAX, NodeName, Registration, Role, SHARDS_MAX, ServerInfo, Start, ToManager,
};
use super::plan::{Event, JobEnd, JobPlan};

/// A connection to a node, numbered by whoever owns the sockets.
pub type Connection = u64;

/// How often a barrier that hangs is explained to those who wait.
const BARRIER_EXPLAIN_EVERY: Duration = Duration::from_secs(1);

/// What the owner of the sockets must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this line.
    Send(Connection, FromManager),
    /// Close once everything is sent.
    Close(Connection),
    /// Tell the launcher.
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Joining,
    Linking,
    Running,
    Stopping,
    Ended(JobEnd),
}

#[derive(Debug)]
struct Node {
    connection: Connection,
    registration: Registration,
    heard: Duration,
    silent: bool,
    ready: bool,
    finished: bool,
}

#[derive(Debug, Default)]
struct Barrier {
    arrived: BTreeSet<NodeName>,
    explained: Duration,
}

/// The manager's state. Times are durations since any fixed moment.
#[derive(Debug)]
pub struct ManagerCore {
    plan: JobPlan,
    phase: Phase,
    /// When the present phase runs out.
    phase_until: Duration,
    nodes: BTreeMap<NodeName, Node>,
    names: HashMap<Connection, NodeName>,
    barriers: BTreeMap<String, Barrier>,
}

impl ManagerCore {
    /// A job that begins `now`.
    pub fn new(plan: JobPlan, now: Duration) -> Self {
        let phase_until = now + plan.join_deadline;
        ManagerCore {
            plan,
            phase: Phase::Joining,
            phase_until,
            nodes: BTreeMap::new(),
            names: HashMap::new(),
            barriers: BTreeMap::new(),
        }
    }

    /// How the job ended, if it did.
    pub fn ended(&self) -> Option<&JobEnd> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// The name of the node on this connection, once it has registered.
    pub fn name_of(&self, connection: Connection) -> Option<NodeName> {
        self.names.get(&connection).copied()
    }

    /// When [`ManagerCore::tick`] should be called at the latest.
    pub fn wake_at(&self, now: Duration) -> Duration {
        let pace = now + self.plan.silent_after.min(BARRIER_EXPLAIN_EVERY) / 2;
        if matches!(self.phase, Phase::Running | Phase::Ended(_)) { pace } else { pace.min(self.phase_until) }
    }

    /// A line from a connection.
    pub fn handle(&mut self, now: Duration, from: Connection, message: ToManager, out: &mut Vec<Output>) {
        if self.ended().is_some() {
            return;
        }
        let Some(name) = self.name_of(from) else {
            return match message {
                ToManager::Register(registration) => self.register(now, from, registration, out),
                other => self.refuse(from, format!("expected a registration first, got {other:?}"), out),
            };
        };
        self.heard(now, name, out);
        match message {
            ToManager::Register(_) => self.abort(Some(name), format!("{name} registered twice"), out),
            ToManager::Heartbeat => {}
            ToManager::Ready { carriers } => self.ready(name, carriers, out),
            ToManager::Barrier { name: barrier } => self.barrier(now, name, barrier, out),
            ToManager::Progress { body } => out.push(Output::Event(Event::Progress { node: name, body })),
            ToManager::Report { body } => out.push(Output::Event(Event::Report { node: name, body })),
            ToManager::Finish => self.finish(now, name, out),
            ToManager::Failed { reason } => self.abort(Some(name), format!("{name} failed: {reason}"), out),
        }
    }

    /// A connection ended (`why` for people).
    pub fn lost(&mut self, from: Connection, why: &str, out: &mut Vec<Output>) {
        let Some(name) = self.names.remove(&from) else { return };
        let node = &self.nodes[&name];
        if node.finished || self.ended().is_some() {
            return;
        }
        let pid = node.registration.pid;
        self.abort(Some(name), format!("{name} (process {pid}) died: {why}"), out);
    }

    /// Time passed: deadlines, silence, barriers that hang.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Output>) {
        self.check_phase(now, out);
        if self.ended().is_some() {
            return;
        }
        self.check_silence(now, out);
        self.explain_barriers(now, out);
    }

    /// Ends the job with a reason; everybody who is connected hears it. Only the first reason counts.
    pub fn abort(&mut self, culprit: Option<NodeName>, reason: String, out: &mut Vec<Output>) {
        if self.ended().is_some() {
            return;
        }
        for &connection in self.names.keys() {
            out.push(Output::Send(connection, FromManager::Abort { culprit, reason: reason.clone() }));
            out.push(Output::Close(connection));
        }
        self.end(JobEnd::Aborted { culprit, reason }, out);
    }

    fn end(&mut self, end: JobEnd, out: &mut Vec<Output>) {
        self.phase = Phase::Ended(end.clone());
        out.push(Output::Event(Event::Ended(end)));
    }

    fn broadcast(&self, message: &FromManager, out: &mut Vec<Output>) {
        out.extend(self.names.keys().map(|&connection| Output::Send(connection, message.clone())));
    }

    fn refuse(&mut self, from: Connection, reason: String, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::Refused { reason: reason.clone() }));
        out.push(Output::Send(from, FromManager::Refused { reason }));
        out.push(Output::Close(from));
    }

    fn wanted(&self, role: Role) -> u32 {
        match role {
            Role::Server => self.plan.servers,
            Role::Worker => self.plan.workers,
        }
    }

    /// Names of this job that nobody holds yet.
    fn missing(&self) -> Vec<NodeName> {
        let servers = (0..self.plan.servers).map(NodeName::server);
        let workers = (0..self.plan.workers).map(NodeName::worker);
        servers.chain(workers).filter(|name| !self.nodes.contains_key(name)).collect()
    }

    fn place_for(&self, registration: &Registration) -> Result<NodeName, String> {
        let role = registration.role;
        let wanted = self.wanted(role);
        if self.phase != Phase::Joining {
            return Err("this job has started already; nobody can join it now".into());
        }
        let shards_ok = match role {
            Role::Server => (1..=SHARDS_MAX).contains(&registration.shards),
            Role::Worker => registration.shards == 0,
        };
        if !shards_ok {
            return Err(format!(
                "expected 1..={SHARDS_MAX} shards for a server and none for a worker, got {}",
                registration.shards
            ));
        }
        let name = match registration.rank {
            Some(rank) => NodeName { role, rank },
            None => (0..wanted)
                .map(|rank| NodeName { role, rank })
                .find(|name| !self.nodes.contains_key(name))
                .ok_or_else(|| format!("expected {wanted} of this role, and all of them are here"))?,
        };
        if name.rank >= wanted {
            return Err(format!("{name} does not exist in this job: ranks are 0..{wanted}"));
        }
        if let Some(holder) = self.nodes.get(&name) {
            return Err(format!("{name} is here already (process {})", holder.registration.pid));
        }
        Ok(name)
    }

    fn register(
        &mut self,
        now: Duration,
        from: Connection,
        registration: Registration,
        out: &mut Vec<Output>,
    ) {
        let name = match self.place_for(&registration) {
            Ok(name) => name,
            Err(reason) => return self.refuse(from, reason, out),
        };
        out.push(Output::Event(Event::Joined { node: name, pid: registration.pid }));
        self.names.insert(from, name);
        self.nodes.insert(
            name,
            Node { connection: from, registration, heard: now, silent: false, ready: false, finished: false },
        );
        if self.missing().is_empty() {
            self.start(now, out);
        }
    }

    fn start(&mut self, now: Duration, out: &mut Vec<Output>) {
        let mut shard_first = 0;
        let mut servers = Vec::new();
        for (name, node) in self.nodes.iter().filter(|(name, _)| name.role == Role::Server) {
            let Registration { host, shards, addresses, verbs, .. } = node.registration.clone();
            servers.push(ServerInfo { rank: name.rank, host, shard_first, shards, addresses, verbs });
            shard_first += shards;
        }
        if shard_first > SHARDS_MAX {
            let reason = format!("expected at most {SHARDS_MAX} shards in all, got {shard_first}");
            return self.abort(None, reason, out);
        }
        let mut busy_threads: HashMap<&HostFingerprint, u32> = HashMap::new();
        for Node { registration, .. } in self.nodes.values() {
            *busy_threads.entry(&registration.host).or_default() += registration.shards.max(1);
        }
        for (name, node) in &self.nodes {
            let start = Start {
                rank: name.rank,
                workers: self.plan.workers,
                busy_threads: busy_threads[&node.registration.host],
                servers: servers.clone(),
                keys: self.plan.keys,
                ring_bytes: self.plan.ring_bytes,
                window_requests: self.plan.window_requests,
                parameters: self.plan.parameters.clone(),
            };
            out.push(Output::Send(node.connection, FromManager::Start(Box::new(start))));
        }
        self.phase = Phase::Linking;
        self.phase_until = now + self.plan.join_deadline;
    }

    fn ready(&mut self, name: NodeName, carriers: Vec<String>, out: &mut Vec<Output>) {
        if let Some(node) = self.nodes.get_mut(&name) {
            node.ready = true;
        }
        out.push(Output::Event(Event::Linked { node: name, carriers }));
        if self.phase == Phase::Linking && self.nodes.values().all(|node| node.ready) {
            self.phase = Phase::Running;
            out.push(Output::Event(Event::Running));
        }
    }

    fn barrier(&mut self, now: Duration, name: NodeName, barrier: String, out: &mut Vec<Output>) {
        if name.role != Role::Worker || barrier.len() > NAME_BYTES_MAX {
            let reason = format!("{name} broke the protocol: a barrier named by {} bytes", barrier.len());
            return self.abort(Some(name), reason, out);
        }
        if let Some((left, _)) = self.nodes.iter().find(|(n, node)| n.role == Role::Worker && node.finished) {
            let reason = format!("{name} waits at barrier {barrier:?}, but {left} has finished");
            return self.abort(Some(*left), reason, out);
        }
        let entry = self.barriers.entry(barrier.clone()).or_default();
        if entry.arrived.is_empty() {
            entry.explained = now;
        }
        entry.arrived.insert(name);
        if entry.arrived.len() == self.plan.workers as usize {
            for name in self.barriers.remove(&barrier).unwrap_or_default().arrived {
                let done = FromManager::BarrierDone { name: barrier.clone() };
                out.push(Output::Send(self.nodes[&name].connection, done));
            }
        } else if self.barriers.len() > self.plan.workers as usize {
            // Each worker waits at one barrier at a time, so more barriers than workers is a bug of the caller.
            self.abort(Some(name), format!("{name} broke the protocol: too many barriers"), out);
        }
    }

    fn finish(&mut self, now: Duration, name: NodeName, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get_mut(&name) else { return };
        if node.finished {
            return;
        }
        if name.role == Role::Server && self.phase != Phase::Stopping {
            return self.abort(Some(name), format!("{name} left before the workers had finished"), out);
        }
        node.finished = true;
        if let (Role::Worker, Some(barrier)) = (name.role, self.barriers.keys().next()) {
            let reason = format!("others wait at barrier {barrier:?}, but {name} has finished");
            return self.abort(Some(name), reason, out);
        }
        out.push(Output::Event(Event::Left { node: name }));
        let done = |role| self.nodes.iter().filter(|(n, _)| n.role == role).all(|(_, node)| node.finished);
        match name.role {
            Role::Server if done(Role::Server) => self.end(JobEnd::Finished, out),
            Role::Worker if self.missing().is_empty() && done(Role::Worker) => {
                self.phase = Phase::Stopping;
                self.phase_until = now + self.plan.stop_deadline;
                for node in self.nodes.values().filter(|node| node.registration.role == Role::Server) {
                    out.push(Output::Send(node.connection, FromManager::Stop));
                }
            }
            _ => {}
        }
    }

    fn heard(&mut self, now: Duration, name: NodeName, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get_mut(&name) else { return };
        node.heard = now;
        if std::mem::take(&mut node.silent) {
            out.push(Output::Event(Event::Back { node: name }));
            self.broadcast(&FromManager::Back { node: name }, out);
        }
    }

    fn check_phase(&mut self, now: Duration, out: &mut Vec<Output>) {
        if now < self.phase_until {
            return;
        }
        let list =
            |names: Vec<NodeName>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let those = |wanted: &dyn Fn(&NodeName, &Node) -> bool| -> Vec<NodeName> {
            self.nodes.iter().filter(|(name, node)| wanted(name, node)).map(|(name, _)| *name).collect()
        };
        let (names, what, limit) = match self.phase {
            Phase::Joining => (self.missing(), "did not join", self.plan.join_deadline),
            Phase::Linking => {
                (those(&|_, node| !node.ready), "did not set up all links", self.plan.join_deadline)
            }
            Phase::Stopping => (
                those(&|name, node| name.role == Role::Server && !node.finished),
                "did not end",
                self.plan.stop_deadline,
            ),
            Phase::Running | Phase::Ended(_) => return,
        };
        let culprit = names.first().copied();
        self.abort(culprit, format!("{} {what} within {limit:?}", list(names)), out);
    }

    fn check_silence(&mut self, now: Duration, out: &mut Vec<Output>) {
        let limit = self.plan.silent_after;
        let mut silent = Vec::new();
        for (&name, node) in &mut self.nodes {
            let since = now.saturating_sub(node.heard);
            if !node.finished && !node.silent && since >= limit {
                node.silent = true;
                silent.push((name, since.as_millis() as u64));
            }
        }
        for (node, silent_ms) in silent {
            out.push(Output::Event(Event::Silent { node, silent_ms }));
            self.broadcast(&FromManager::Silent { node, silent_ms }, out);
        }
    }

    fn explain_barriers(&mut self, now: Duration, out: &mut Vec<Output>) {
        for (barrier, entry) in &mut self.barriers {
            if now.saturating_sub(entry.explained) < BARRIER_EXPLAIN_EVERY {
                continue;
            }
            entry.explained = now;
            let missing: Vec<_> = (0..self.plan.workers)
                .map(NodeName::worker)
                .filter(|name| !entry.arrived.contains(name))
                .collect();
            for name in &entry.arrived {
                let message = FromManager::BarrierMissing { name: barrier.clone(), missing: missing.clone() };
                out.push(Output::Send(self.nodes[name].connection, message));
            }
        }
    }
}
