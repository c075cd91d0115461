//! What a process uses, as the kernel counts it.

use anyhow::Context as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The kernel's unit of processor time; 100 on every Linux in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident_mib: f64,
    pub(crate) high_water_mib: f64,
}

/// Processor time of a process and of all below it so far, in and outside the kernel.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let mut seconds = 0.0;
    for id in family(process)? {
        // A child may have ended since the list was made; its time is then its parent's.
        seconds += read_stat(id).map_or(0.0, |stat| stat.cpu_seconds);
    }
    Ok(seconds)
}

/// Processor time of this process alone.
pub(crate) fn own_cpu_seconds() -> anyhow::Result<f64> {
    let stat = read_stat(std::process::id()).context("processor time is only known on Linux")?;
    Ok(stat.own_cpu_seconds)
}

/// Processor time that the whole machine has used so far.
pub(crate) fn machine_cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).map(str::parse::<f64>);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>()?;
    // user, nice, system, idle, waiting for disks, interrupts, soft interrupts
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index));
    Ok(busy.sum::<f64>() / TICKS_PER_SECOND)
}

/// Memory of a process and of all below it: now, and at the most.
pub(crate) fn memory(process: u32) -> anyhow::Result<Memory> {
    let mut memory = Memory::default();
    for id in family(process)? {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let mib = |name: &str| {
            let kib = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = kib.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
            kib.unwrap_or(0.0) / 1024.0
        };
        memory.resident_mib += mib("VmRSS:");
        memory.high_water_mib += mib("VmHWM:");
    }
    Ok(memory)
}

/// Waits until a server has ended what it does in the background, such as merging, so that it is counted too.
pub(crate) fn settle(process: u32) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_millis(500);
    const WAIT_MAX: Duration = Duration::from_mins(2);
    const QUIET_PAUSES: u32 = 6;
    // What an idle server may use of a pause.
    const QUIET_CPU_SECONDS: f64 = 0.03;
    let begin = Instant::now();
    let (mut quiet, mut before) = (0, cpu_seconds(process)?);
    while quiet < QUIET_PAUSES && begin.elapsed() < WAIT_MAX {
        std::thread::sleep(PAUSE);
        let now = cpu_seconds(process)?;
        quiet = if now - before <= QUIET_CPU_SECONDS {
            quiet + 1
        } else {
            0
        };
        before = now;
    }
    Ok(())
}

/// Bytes of all files in a directory and below it. Files that are swept away meanwhile do not count.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

struct Stat {
    parent: u32,
    own_cpu_seconds: f64,
    /// With that of children that have ended.
    cpu_seconds: f64,
}

fn read_stat(process: u32) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let after_name = stat.rsplit(") ").next()?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let seconds = |index: usize| {
        let ticks = fields.get(index)?.parse::<f64>().ok()?;
        Some(ticks / TICKS_PER_SECOND)
    };
    let own_cpu_seconds = seconds(11)? + seconds(12)?;
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_cpu_seconds,
        cpu_seconds: own_cpu_seconds + seconds(13)? + seconds(14)?,
    })
}

/// A process and all below it.
fn family(process: u32) -> anyhow::Result<Vec<u32>> {
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .context("processes are only known on Linux")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, read_stat(id)?.parent)))
        .collect();
    let mut family = vec![process];
    let mut index = 0;
    while let Some(&parent) = family.get(index) {
        let children = all.iter().filter(|(_, of)| *of == parent);
        family.extend(children.map(|(id, _)| *id));
        index += 1;
    }
    Ok(family)
}
