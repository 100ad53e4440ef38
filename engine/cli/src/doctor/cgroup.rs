//! The limits of this process's control groups, version 2 or 1.

use std::path::PathBuf;

use super::line;

/// What the groups allow; nothing is said where there is no limit.
#[derive(Debug, Default, PartialEq)]
pub struct Limits {
    /// Processors' worth of time.
    pub processors: Option<f64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

/// Reads the limits of this process's groups and of those around them: the smallest counts.
pub fn limits() -> Limits {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Limits::default();
    for group in groups.lines() {
        // "0::/path" of version 2, "4:memory:/path" of version 1.
        let mut parts = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => PathBuf::from("/sys/fs/cgroup"),
            names => PathBuf::from("/sys/fs/cgroup").join(names),
        };
        let inner = root.join(path.trim_start_matches('/'));
        for folder in inner.ancestors().take_while(|folder| folder.starts_with(&root)) {
            let quota = match controllers {
                "" => line(folder.join("cpu.max")),
                _ => line(folder.join("cpu.cfs_quota_us"))
                    .zip(line(folder.join("cpu.cfs_period_us")))
                    .map(|(quota, period)| format!("{quota} {period}")),
            };
            let memory = match controllers {
                "" => line(folder.join("memory.max")),
                _ => line(folder.join("memory.limit_in_bytes")),
            };
            limits.processors = smaller(limits.processors, quota.as_deref().and_then(processors));
            limits.memory_bytes = smaller(limits.memory_bytes, memory.as_deref().and_then(memory_bytes));
        }
    }
    limits
}

fn smaller<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// "200000 100000" is two processors; "max ..." and "-1 ..." are no limit.
fn processors(quota: &str) -> Option<f64> {
    let (quota, period) = quota.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Version 1 writes "no limit" as a number of almost 2^63.
fn memory_bytes(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&bytes| bytes < 1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_no_limit_in_their_own_way() {
        assert_eq!(processors("150000 100000"), Some(1.5));
        assert_eq!(processors("max 100000"), None);
        assert_eq!(processors("-1 100000"), None);
        assert_eq!(memory_bytes("1073741824"), Some(1 << 30));
        assert_eq!(memory_bytes("max"), None);
        assert_eq!(memory_bytes("9223372036854771712"), None);
        assert_eq!(smaller(None, Some(2)), Some(2));
        assert_eq!(smaller(Some(1), Some(2)), Some(1));
    }
}
