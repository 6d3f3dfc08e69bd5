//! What the operating system says and does: memory figures, processors, the allocator.
//! Linux only where `/proc` and cgroups are read; elsewhere each figure is simply not known.

use std::path::{Path, PathBuf};

use crate::budget::MIB;

/// Memory that buys one whole vCPU on Lambda, MB (AWS Lambda developer guide, "Memory and computing power").
const LAMBDA_MB_PER_VCPU: u64 = 1769;

/// The smallest memory limit this process runs under, bytes: the function's size, cgroups, physical memory.
#[must_use]
pub fn memory_limit_bytes(lambda_memory_mb: Option<u64>) -> u64 {
    [lambda_memory_mb.map(|mb| mb * MIB), cgroup_limit_bytes(), physical_bytes()]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
}

/// Anonymous memory of this process now, bytes: what cannot be dropped and read again.
#[must_use]
pub fn anonymous_bytes() -> u64 {
    status_bytes("RssAnon:").unwrap_or(0)
}

/// Greatest resident set since the start or the last [`reset_peak`], bytes.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    status_bytes("VmHWM:").unwrap_or(0)
}

/// Starts a new peak measurement (proc(5), `clear_refs`). Where the kernel refuses, the peak stays that of the process.
pub fn reset_peak() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        tracing::debug!(%error, "the peak cannot be reset");
    }
}

/// Threads worth starting: the processors given, and on Lambda no more than the vCPUs that the memory buys
/// (its containers show more processors than they may use).
#[must_use]
pub fn threads(lambda_memory_mb: Option<u64>) -> usize {
    let given = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bought = lambda_memory_mb.map_or(usize::MAX, |mb| mb.div_ceil(LAMBDA_MB_PER_VCPU) as usize);
    given.min(bought).max(1)
}

/// Settles what must be settled before anything else runs; the first line of every `main`, before threads exist.
///
/// - glibc's thresholds are fixed, so that image-sized blocks are mapped and returned at once instead of fragmenting
///   the heap: left alone, the mapping threshold grows with the largest block freed and memory creeps from request to
///   request.
/// - ONNX Runtime's usage database is switched off: it would write to the home folder.
pub fn prepare_process() {
    // SAFETY: no other thread exists yet that could read the environment meanwhile.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const BLOCK_BYTES: libc::c_int = 128 * 1024;
        // Fewer arenas than glibc's 8 per core: each keeps its own free lists.
        const ARENAS: libc::c_int = 2;
        // SAFETY: `mallopt` only stores a number in the allocator's settings; any value is valid for these three.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, BLOCK_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, BLOCK_BYTES);
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        }
    }
}

/// Ends this process quietly when whoever reads its output stops reading, as `… | head` does. Sockets are not
/// concerned: Rust writes to them without the signal.
pub fn end_on_broken_pipe() {
    // SAFETY: restores a signal's default action; no handler of this process is replaced.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Gives free heap pages back to the system.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes the allocator's own locks and touches only free memory.
        #[allow(unsafe_code)]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// A `kB` line of `/proc/self/status`.
fn status_bytes(name: &str) -> Option<u64> {
    kib_line(&std::fs::read_to_string("/proc/self/status").ok()?, name)
}

fn physical_bytes() -> Option<u64> {
    kib_line(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The smallest limit on the way from this process's cgroup to the root, version 2 or 1.
fn cgroup_limit_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            if controllers.is_empty() {
                Some(("/sys/fs/cgroup", path, "memory.max"))
            } else if controllers.split(',').any(|c| c == "memory") {
                Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
            } else {
                None
            }
        })
        .filter_map(|(root, path, file)| smallest_limit(Path::new(root), path, file))
        .min()
}

fn smallest_limit(root: &Path, path: &str, file: &str) -> Option<u64> {
    let leaf: PathBuf = root.join(path.trim_start_matches('/'));
    leaf.ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kilobyte_lines() {
        let text = "VmPeak:\t  123 kB\nVmHWM:\t    2048 kB\nThreads:\t4\n";
        assert_eq!(kib_line(text, "VmHWM:"), Some(2 << 20));
        assert_eq!(kib_line(text, "Threads:"), None);
        assert_eq!(kib_line(text, "RssAnon:"), None);
    }

    #[test]
    fn the_smallest_limit_of_the_ancestors_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("a/b");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::write(root.path().join("memory.max"), "max\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        std::fs::write(leaf.join("memory.max"), "2000\n").unwrap();
        assert_eq!(smallest_limit(root.path(), "/a/b", "memory.max"), Some(1000));
        assert_eq!(smallest_limit(root.path(), "/", "memory.max"), None);
    }

    #[test]
    fn threads_follow_what_the_memory_buys() {
        assert_eq!(threads(Some(128)), 1);
        assert_eq!(threads(Some(1769)), 1);
        assert!(threads(Some(3008)) <= 2);
        assert!(threads(None) >= 1);
    }

    #[test]
    fn a_limit_is_never_above_the_function_size() {
        assert!(memory_limit_bytes(Some(256)) <= 256 * MIB);
        assert!(memory_limit_bytes(None) >= MIB);
    }
}
