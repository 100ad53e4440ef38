//! Memory: how much may be locked, how large pages are, how much there is.

use rustix::process::{Resource, getrlimit};

use super::cgroup;
use super::{Finding, Severity, line};

/// What a link over verbs locks with the usual ring of 1 MiB: two rings, each pinned through two views, and a page.
const LINK_BYTES: u64 = (4 << 20) + (4 << 10);
/// A limit that stands for so many links is nobody's trouble.
const LINKS: u64 = 64;
/// A job with less memory than this is a toy.
const MEMORY_BYTES_MIN: u64 = 1 << 30;

/// Limits of locked memory, page sizes, memory available.
pub fn examine(rdma: bool) -> Vec<Finding> {
    let shared_pages = line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    vec![
        judge_memlock(getrlimit(Resource::Memlock).current.filter(|_| !may_lock_anything()), rdma),
        judge_huge_pages(shared_pages.as_deref(), line("/proc/sys/vm/nr_hugepages").as_deref()),
        judge_amount(available_bytes(), cgroup::limits().memory_bytes),
        judge_shm(),
    ]
}

fn judge_memlock(limit: Option<u64>, rdma: bool) -> Finding {
    const AREA: &str = "locked memory";
    let Some(bytes) = limit else { return Finding::fine(AREA, "no limit for this process") };
    let links = bytes / LINK_BYTES;
    let found =
        format!("limit {} KiB, enough for links over verbs with rings of 1 MiB: {links}", bytes >> 10);
    if links >= LINKS {
        return Finding::fine(AREA, found);
    }
    let mend = "ulimit -l unlimited; for good: `* - memlock unlimited` in /etc/security/limits.d/rdma.conf, \
                LimitMEMLOCK=infinity in a service, PropagateResourceLimitsExcept=MEMLOCK in slurm.conf";
    let severity = if rdma { Severity::Warning } else { Severity::Fine };
    Finding::new(AREA, severity, found, mend)
}

fn judge_huge_pages(shared: Option<&str>, reserved: Option<&str>) -> Finding {
    const AREA: &str = "huge pages";
    // The choice in force stands in brackets.
    let chosen = shared.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(chosen, _)| chosen);
    let found = format!(
        "transparent for shared memory: {}; reserved: {}",
        chosen.unwrap_or("not offered"),
        reserved.unwrap_or("none")
    );
    match chosen {
        Some("always" | "within_size" | "advise" | "force") => Finding::fine(AREA, found),
        _ => Finding::new(
            AREA,
            Severity::Fine,
            found,
            "for rings and slabs of 2 MiB and more: \
             echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled (as root)",
        ),
    }
}

fn judge_amount(available: Option<u64>, group: Option<u64>) -> Finding {
    const AREA: &str = "memory";
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    let limit = group.map_or("no limit by its control groups".into(), |bytes| {
        format!("its control groups allow {}", gib(bytes))
    });
    let found = format!("{} available; {limit}", available.map_or("unknown".into(), gib));
    let least = [available, group].into_iter().flatten().min();
    if least.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
        let mend = "ask the batch system for more memory (sbatch --mem=8G), or stop other programs";
        return Finding::new(AREA, Severity::Warning, found, mend);
    }
    Finding::fine(AREA, found)
}

fn judge_shm() -> Finding {
    const AREA: &str = "shared memory";
    let Ok(stat) = rustix::fs::statvfs("/dev/shm") else {
        return Finding::fine(AREA, "no /dev/shm; rings are memfds and need none");
    };
    let mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    Finding::fine(AREA, format!("{mib} MiB free in /dev/shm; rings are memfds and do not count there"))
}

/// CAP_IPC_LOCK, which root usually has, lifts the limit.
fn may_lock_anything() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & CAP_IPC_LOCK != 0)
}

fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_locked_memory_is_a_warning_where_rdma_is() {
        assert_eq!(judge_memlock(Some(8 << 20), true).severity, Severity::Warning);
        assert_eq!(judge_memlock(Some(8 << 20), false).severity, Severity::Fine);
        assert_eq!(judge_memlock(Some(1 << 30), true).severity, Severity::Fine);
        let found = judge_memlock(Some(8 << 20), true);
        assert!(
            found.found.contains("8192 KiB")
                && found.found.ends_with(": 1")
                && found.mend.unwrap().contains("ulimit -l")
        );
        assert_eq!(judge_memlock(None, true).mend, None);
    }

    #[test]
    fn the_choice_in_brackets_counts() {
        assert_eq!(judge_huge_pages(Some("always [advise] never"), Some("0")).mend, None);
        assert!(judge_huge_pages(Some("always advise [never]"), None).mend.is_some());
        assert!(judge_huge_pages(None, None).found.contains("not offered"));
    }

    #[test]
    fn the_smaller_of_machine_and_group_counts() {
        assert_eq!(judge_amount(Some(16 << 30), Some(256 << 20)).severity, Severity::Warning);
        assert_eq!(judge_amount(Some(16 << 30), None).severity, Severity::Fine);
    }
}
