//! Processors: how many, of which nodes, with which instructions, and what their clock costs.

use keyrange_kernels::isa::{self, Isa};

use super::cgroup;
use super::{Finding, Severity, line};

/// Cores, quota, memory nodes, instruction set, clock.
pub fn examine() -> Vec<Finding> {
    let usable = rustix::thread::sched_getaffinity(None).map_or(0, |set| set.count());
    let online = std::fs::read_to_string("/proc/cpuinfo")
        .map_or(0, |text| text.lines().filter(|line| line.starts_with("processor")).count() as u32);
    vec![
        judge_cores(usable, online, cgroup::limits().processors),
        judge_nodes(line("/sys/devices/system/node/online").as_deref()),
        judge_instructions(isa::current()),
        judge_clock(clock("current_clocksource").as_deref(), clock("available_clocksource").as_deref()),
    ]
}

fn clock(file: &str) -> Option<String> {
    line(format!("/sys/devices/system/clocksource/clocksource0/{file}"))
}

fn judge_cores(usable: u32, online: u32, quota: Option<f64>) -> Finding {
    const AREA: &str = "cores";
    let share = quota.map_or(String::new(), |quota| format!(", time for {quota:.1} by the control groups"));
    let found = format!("{usable} usable of {online}{share}");
    if quota.is_some_and(|quota| quota < f64::from(usable)) {
        let mend = "threads that spin use up the quota and are stopped: start no more servers and workers than whole cores \
                    of it, or have it raised (sbatch --cpus-per-task)";
        return Finding::new(AREA, Severity::Warning, found, mend);
    }
    if usable < 2 {
        let mend = "a server and a worker take turns on one core: ask for two or more (sbatch --cpus-per-task, taskset)";
        return Finding::new(AREA, Severity::Warning, found, mend);
    }
    Finding::fine(AREA, found)
}

fn judge_nodes(online: Option<&str>) -> Finding {
    const AREA: &str = "memory nodes";
    match online {
        None | Some("0") => Finding::fine(AREA, "one"),
        Some(nodes) => Finding::new(
            AREA,
            Severity::Fine,
            format!("nodes {nodes}"),
            "keep a server and its workers on one node: numactl --cpunodebind=0 --membind=0 keyrange ...",
        ),
    }
}

fn judge_instructions(isa: Isa) -> Finding {
    const AREA: &str = "instructions";
    if isa == Isa::Scalar && cfg!(target_arch = "x86_64") {
        let mend = "kernels run several times slower without AVX2: unset KEYRANGE_ISA, or give the virtual machine the host's \
                    processor (-cpu host)";
        return Finding::new(AREA, Severity::Warning, isa.to_string(), mend);
    }
    Finding::fine(AREA, isa.to_string())
}

fn judge_clock(source: Option<&str>, available: Option<&str>) -> Finding {
    const AREA: &str = "clock";
    let slow = |source: &str| {
        let offered = available.unwrap_or_default().split_whitespace().any(|clock| clock == "tsc");
        let mend = if offered {
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource (as root)"
        } else {
            "the kernel does not trust this processor's counter: boot with tsc=reliable, or give the virtual machine the host's \
             processor (-cpu host)"
        };
        let found = format!("{source}: each reading is a system call of a microsecond");
        Finding::new(AREA, Severity::Warning, found, mend)
    };
    match source {
        Some(source @ ("hpet" | "acpi_pm" | "jiffies" | "pit" | "refined-jiffies")) => slow(source),
        other => Finding::fine(AREA, other.unwrap_or("unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_cores_and_a_small_quota_are_warnings() {
        assert_eq!(judge_cores(8, 8, None).severity, Severity::Fine);
        assert_eq!(judge_cores(8, 8, Some(8.0)).severity, Severity::Fine);
        assert_eq!(judge_cores(8, 8, Some(1.5)).severity, Severity::Warning);
        assert_eq!(judge_cores(1, 8, None).severity, Severity::Warning);
        assert!(judge_cores(2, 64, None).found.contains("2 usable of 64"));
    }

    #[test]
    fn a_slow_clock_and_several_nodes_are_told() {
        assert_eq!(judge_clock(Some("tsc"), None).severity, Severity::Fine);
        let slow = judge_clock(Some("hpet"), Some("tsc hpet acpi_pm"));
        assert_eq!(slow.severity, Severity::Warning);
        assert!(slow.mend.unwrap().contains("echo tsc"));
        let untrusted = judge_clock(Some("acpi_pm"), Some("acpi_pm"));
        assert!(untrusted.mend.unwrap().contains("tsc=reliable"));
        assert!(judge_nodes(Some("0-1")).mend.unwrap().contains("numactl"));
        assert_eq!(judge_nodes(Some("0")).mend, None);
    }
}
