//! How a worker uses a clocked table, and what became of it: the structs of `clocked.rs`.

use engine::clock::{ClockError, ClockStats, ClockedConfig, EarlyConfig, EarlyOrder, Staleness};

use crate::handle::place;
use crate::status::{Fault, guard, kr_status};

/// As `staleness`: reads wait for nobody.
pub const KR_UNBOUNDED: u64 = u64::MAX;

/// Rows leave early that changed most for their size.
pub const KR_EARLY_MAGNITUDE: u32 = 0;
/// Rows leave early that have waited longest.
pub const KR_EARLY_FIFO: u32 = 1;
/// Any rows leave early.
pub const KR_EARLY_RANDOM: u32 = 2;

/// How one worker uses a clocked table. Start from kr_clocked_config_init(); staleness must be the same for all workers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_clocked_config {
    /// sizeof(kr_clocked_config).
    pub size: usize,
    /// How many clocks a read may be behind: at clock c it holds all that any worker did in the clocks before c - staleness, and
    /// always what this worker did. 0 is bulk synchronous (BSP), KR_UNBOUNDED asynchronous, anything between stale synchronous (SSP).
    pub staleness: u64,
    /// If not 0, at most this much may be on its way: kr_clocked_close() returns when no value of the sum of this worker's
    /// increments that others may not have is beyond value_bound / sqrt(clock). Needs `eager`.
    pub value_bound: f64,
    /// If not 0, increments of the clock at hand leave before it is closed and (with `eager`) changed rows before the others close
    /// theirs, so many bytes per second at most. Reads get fresher, and nothing else changes.
    pub early_bytes_per_s: u64,
    /// Bytes that leave early at once, at most; 0 is 16384.
    pub early_burst_bytes: u64,
    /// Which rows leave early: KR_EARLY_MAGNITUDE, KR_EARLY_FIFO or KR_EARLY_RANDOM.
    pub early_order: u32,
    /// 1: servers send rows fetched once again, unasked, when all other workers have closed a clock (ESSP); 0: rows are asked for when
    /// they are too old (with KR_UNBOUNDED: never again).
    pub eager: u32,
}

impl kr_clocked_config {
    /// In the engine's words.
    pub fn config(&self) -> Result<ClockedConfig, Fault> {
        let eager = match self.eager {
            0 => false,
            1 => true,
            got => return Err(Fault::invalid(format!("eager: expected 0 or 1, got {got}"))),
        };
        let staleness = match self.staleness {
            KR_UNBOUNDED => Staleness::UNBOUNDED,
            clocks => Staleness::bounded(i64::try_from(clocks).map_err(|_| {
                let (most, is) = (i64::MAX, clocks.cast_signed());
                Fault::invalid(format!(
                    "staleness: expected a number of clocks from 0 to {most}, or KR_UNBOUNDED, got {clocks} (as a signed \
                     number {is})"
                ))
            })?)?,
        };
        let value_bound = (self.value_bound != 0.0).then_some(self.value_bound);
        let early = self.early()?;
        Ok(ClockedConfig { eager, value_bound, early, ..ClockedConfig::new(staleness) })
    }

    fn early(&self) -> Result<Option<EarlyConfig>, Fault> {
        let order = match self.early_order {
            KR_EARLY_MAGNITUDE => EarlyOrder::Magnitude,
            KR_EARLY_FIFO => EarlyOrder::Fifo,
            KR_EARLY_RANDOM => EarlyOrder::Random,
            got => {
                return Err(Fault::invalid(format!(
                    "early_order: expected KR_EARLY_MAGNITUDE, KR_EARLY_FIFO or KR_EARLY_RANDOM, got {got}"
                )));
            }
        };
        let burst_bytes = self.early_burst_bytes;
        if self.early_bytes_per_s == 0 {
            if burst_bytes != 0 || order != EarlyOrder::Magnitude {
                return Err(Fault::invalid(format!(
                    "early_bytes_per_s: expected a budget for early_burst_bytes {burst_bytes} and early_order {order}, got 0: \
                     set it, or leave all three 0"
                )));
            }
            return Ok(None);
        }
        let usual = EarlyConfig::new(self.early_bytes_per_s);
        let burst_bytes = if burst_bytes == 0 { usual.burst_bytes } else { burst_bytes };
        Ok(Some(EarlyConfig { burst_bytes, order, ..usual }))
    }
}

/// Fills `config` with the default: staleness 0, rows asked for, no value bound, nothing early.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_config_init(config: *mut kr_clocked_config) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let config = unsafe { place("kr_clocked_config", config)? };
        *config = kr_clocked_config {
            size: size_of::<kr_clocked_config>(),
            staleness: 0,
            value_bound: 0.0,
            early_bytes_per_s: 0,
            early_burst_bytes: 0,
            early_order: KR_EARLY_MAGNITUDE,
            eager: 0,
        };
        Ok(kr_status::KR_OK)
    })
}

/// What one worker has done with a clocked table.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct kr_clocked_stats {
    /// sizeof(kr_clocked_stats).
    pub size: usize,
    /// Clocks closed.
    pub clock: u64,
    /// Rows read.
    pub reads: u64,
    /// How many clocks behind they were, on average: 0 when each held all that was done in the clocks before.
    pub mean_behind: f64,
    /// How many clocks behind the oldest of them was; never more than the staleness.
    pub most_behind: u64,
    /// Rows asked for.
    pub rows_pulled: u64,
    /// Rows that came unasked.
    pub rows_pushed: u64,
    /// Seconds spent waiting in the calls of this table.
    pub waited_s: f64,
    /// Rows of increments sent early.
    pub early_rows_sent: u64,
    /// Bytes of that.
    pub early_bytes_sent: u64,
    /// Rows that servers sent early.
    pub early_rows_received: u64,
    /// Bytes of that.
    pub early_bytes_received: u64,
}

impl kr_clocked_stats {
    /// What is told of a table at this clock.
    pub fn of(stats: &ClockStats, clock: u64, waited_s: f64, size: usize) -> kr_clocked_stats {
        let reads: u64 = stats.reads_behind.iter().sum();
        let behind: f64 = (0_u32..).zip(&stats.reads_behind).map(|(by, &of)| f64::from(by) * of as f64).sum();
        kr_clocked_stats {
            size,
            clock,
            reads,
            mean_behind: if reads == 0 { 0.0 } else { behind / reads as f64 },
            most_behind: stats.reads_behind.len().saturating_sub(1) as u64,
            rows_pulled: stats.rows_pulled,
            rows_pushed: stats.rows_pushed,
            waited_s,
            early_rows_sent: stats.early.rows_sent,
            early_bytes_sent: stats.early.bytes_sent,
            early_rows_received: stats.early.rows_received,
            early_bytes_received: stats.early.bytes_received,
        }
    }
}

impl From<ClockError> for Fault {
    fn from(error: ClockError) -> Fault {
        let status = match error {
            ClockError::Submit(error) => return error.into(),
            ClockError::Task(error) => return error.into(),
            ClockError::Worker(error) => return error.into(),
            ClockError::Late { .. } => kr_status::KR_TIMED_OUT,
            ClockError::Answer { .. } => kr_status::KR_NODE,
            _ => kr_status::KR_INVALID,
        };
        Fault { status, text: error.to_string() }
    }
}
