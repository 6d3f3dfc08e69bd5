//! What the operating system says and does: memory figures, processors, the allocator. `/proc` and cgroups exist on
//! Linux only; on other systems these figures are not known.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::{Mmap, UncheckedAdvice};

use crate::units::MIB;

/// The memory that buys one whole vCPU on Lambda, MB (AWS Lambda developer guide, "Memory and computing power").
const LAMBDA_MB_PER_VCPU: u64 = 1769;

/// The smallest memory limit that this process runs under, bytes: the function's size, the cgroups' limits or the
/// physical memory.
#[must_use]
pub(crate) fn memory_limit_bytes(lambda_memory_mb: Option<u64>) -> u64 {
    [lambda_memory_mb.map(|mb| mb.saturating_mul(MIB)), smallest_limit(&cgroups("memory")), physical_bytes()]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
}

/// The anonymous memory of this process now, bytes, which cannot be dropped and read again.
#[must_use]
pub fn anonymous_bytes() -> u64 {
    status_bytes("RssAnon:").unwrap_or(0)
}

/// The resident set of this process now, bytes.
#[must_use]
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:").unwrap_or(0)
}

/// The greatest resident set since the start or the last [`reset_peak`], bytes.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    status_bytes("VmHWM:").unwrap_or(0)
}

/// Starts a new measurement of the peak (proc(5), `clear_refs`). If the kernel refuses, the peak stays that of the
/// process.
pub(crate) fn reset_peak() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        tracing::debug!(%error, "the peak cannot be reset");
    }
}

/// The number of threads worth starting: the processors of this process, and on Lambda no more than the vCPUs that the
/// memory buys, because its containers show more processors than they may use.
#[must_use]
pub fn threads(lambda_memory_mb: Option<u64>) -> usize {
    cpus(lambda_memory_mb).ceil() as usize
}

/// The processor time that this process is given for each second: that of its processors, a cgroup's quota or, on
/// Lambda, the share that the memory buys, whichever is the least. It may be a part of one processor.
#[must_use]
pub(crate) fn cpus(lambda_memory_mb: Option<u64>) -> f64 {
    let given = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let bought = lambda_memory_mb.map(|mb| mb as f64 / LAMBDA_MB_PER_VCPU as f64);
    [bought, cgroup_cpus()].into_iter().flatten().fold(given, f64::min).max(0.01)
}

/// The code of the message that libjpeg gives its callback.
#[must_use]
pub(crate) fn libjpeg_message(info: &mozjpeg_sys::jpeg_common_struct) -> std::ffi::c_int {
    // SAFETY: libjpeg calls back with the error manager that it was made with, which lives as long as the decoder and
    // whose message it has just written; nobody else writes to it meanwhile.
    #[allow(unsafe_code)]
    unsafe {
        info.err.as_ref().map_or(0, |manager| manager.msg_code)
    }
}

/// Applies the settings of the process that must be made before anything else runs. It is the first line of the `main`
/// of `m2fp` and of `bootstrap`, because no other thread may exist yet.
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
        // Each arena keeps its own free lists, so there are fewer than glibc's 8 for each core.
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

/// Lets this process end quietly when the reader of its output stops reading, as in `… | head`. This does not concern
/// sockets, because Rust writes to them without the signal.
pub fn end_on_broken_pipe() {
    // SAFETY: this restores a signal's default action, and no handler of this process is replaced.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Length of a page of memory, bytes.
#[must_use]
pub(crate) fn page_bytes() -> usize {
    // SAFETY: `sysconf` only looks a number up.
    #[allow(unsafe_code)]
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(0)
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

/// Lets go of the resident pages of all code, of this program and of its libraries. What runs again is read again from
/// the files.
pub(crate) fn release_code() {
    #[cfg(target_os = "linux")]
    for code in code(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default()) {
        // SAFETY: these pages are of files, and none was written to since it was mapped: they are executable and not
        // writable, and code that does not depend on its place is not changed by the loader. So what is read again is
        // what was there.
        #[allow(unsafe_code)]
        let done = unsafe { libc::madvise(code.start as *mut libc::c_void, code.len(), libc::MADV_DONTNEED) };
        if done != 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "pages of code stay");
        }
    }
}

/// The ranges of addresses of `maps` (proc(5), "/proc/pid/maps") that hold the code of files.
fn code(maps: &str) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let is_code = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
        let address = |text| usize::from_str_radix(text, 16).ok();
        is_code.then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(range).collect()
}

/// Maps a file for reading. It must only be called for files that nobody writes to any more: the program's own without a
/// name, by which another process could change them, and those of a model, of which only the names change hands.
///
/// # Errors
/// The system's error.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the caller's file is not written to or cut short while it is mapped (above), so the bytes do not change.
    #[allow(unsafe_code)]
    unsafe {
        Mmap::map(file)
    }
}

/// Lets go of the pages of a mapping that are resident now. They are read from the file again when they are touched.
pub(crate) fn release_mapping(mapping: &Mmap) {
    // SAFETY: `Mmap` is a mapping of a file that is never written through (`map` makes no other), so a page that is
    // read again holds the same bytes.
    #[allow(unsafe_code)]
    let advised = unsafe { mapping.unchecked_advise(UncheckedAdvice::DontNeed) };
    if let Err(error) = advised {
        tracing::debug!(%error, "pages of a mapping stay");
    }
}

/// The value of a `kB` line of `/proc/self/status`, in bytes.
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

/// Where the kernel keeps a cgroup's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CgroupVersion {
    One,
    Two,
}

type Cgroup = (CgroupVersion, PathBuf);

/// This process's cgroup of `controller` and those above it, with the innermost first.
fn cgroups(controller: &str) -> Vec<Cgroup> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            found.extend(up_to(Path::new("/sys/fs/cgroup"), path, CgroupVersion::Two));
        } else if controllers.split(',').any(|c| c == controller) {
            found.extend(up_to(&Path::new("/sys/fs/cgroup").join(controller), path, CgroupVersion::One));
        }
    }
    found
}

/// The folder `path` under `root` and those above it.
fn up_to(root: &Path, path: &str, version: CgroupVersion) -> Vec<Cgroup> {
    let leaf = root.join(path.trim_start_matches('/'));
    let inside = leaf.ancestors().take_while(|folder| folder.starts_with(root));
    inside.map(|folder| (version, folder.to_path_buf())).collect()
}

fn smallest_limit(groups: &[Cgroup]) -> Option<u64> {
    let limit = |(version, folder): &Cgroup| {
        number(&folder.join(match version {
            CgroupVersion::One => "memory.limit_in_bytes",
            CgroupVersion::Two => "memory.max",
        }))
    };
    groups.iter().filter_map(limit).min()
}

/// What this process's cgroup holds that cannot simply be dropped, bytes: its memory without the file pages that nobody
/// used lately, as Kubernetes counts a working set. `None` if there is no such cgroup or its figures cannot be read.
#[must_use]
pub(crate) fn cgroup_used_bytes() -> Option<u64> {
    // The cgroup is looked for once, because a process stays in its cgroup and this function is called many times a
    // second.
    static CGROUP: OnceLock<Option<Cgroup>> = OnceLock::new();
    let (version, folder) = CGROUP.get_or_init(|| cgroups("memory").into_iter().next()).as_ref()?;
    let (usage, droppable) = match version {
        CgroupVersion::One => ("memory.usage_in_bytes", "total_inactive_file "),
        CgroupVersion::Two => ("memory.current", "inactive_file "),
    };
    let stat = std::fs::read_to_string(folder.join("memory.stat")).ok()?;
    let droppable: u64 = stat.lines().find_map(|line| line.strip_prefix(droppable)?.parse().ok())?;
    Some(number(&folder.join(usage))?.saturating_sub(droppable))
}

/// The processor time that the cgroups allow for each second; `None` if they set no limit.
fn cgroup_cpus() -> Option<f64> {
    let quota = |(version, folder): &Cgroup| match version {
        CgroupVersion::One => {
            let part = number(&folder.join("cpu.cfs_quota_us"))?;
            Some(part as f64 / number(&folder.join("cpu.cfs_period_us"))? as f64)
        }
        CgroupVersion::Two => {
            let text = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
            let (part, period) = text.trim().split_once(' ')?;
            Some(part.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        }
    };
    cgroups("cpu").iter().filter_map(quota).reduce(f64::min)
}

/// The number in a file. `None` for a word ("max") and for -1, which both mean no limit, and if the file cannot be
/// read.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
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
    fn code_is_what_is_executable_and_of_a_file() {
        let maps = "\
            55d09000-55d0a000 r-xp 00000000 08:01 41 /lib/ld.so\n\
            55d0a000-55d0b000 r--p 00000000 08:01 42 /usr/bin/m2fp\n\
            55d0b000-55d0f000 r-xp 00001000 08:01 42 /usr/bin/m2fp with a space\n\
            55d0f000-55d10000 rw-p 00005000 08:01 42 /usr/bin/m2fp\n\
            7f1000-7f2000 r-xp 00000000 00:00 0\n\
            7ffe000-7fff000 r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(code(maps), [0x55d0_9000..0x55d0_a000, 0x55d0_b000..0x55d0_f000]);
        // Whatever of this test's code is let go of, it goes on.
        release_code();
        let own = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(code(&own).iter().any(|range| range.contains(&(code as fn(&str) -> _ as usize))));
    }

    #[test]
    fn cgroups_are_looked_at_up_to_the_root() {
        let folders = |path| up_to(Path::new("/r"), path, CgroupVersion::Two).into_iter().map(|group| group.1);
        assert!(folders("/a/b").eq(["/r/a/b", "/r/a", "/r"].map(PathBuf::from)));
        assert!(folders("/").eq([PathBuf::from("/r")]));
        let root = tempfile::tempdir().unwrap();
        for (text, expected) in [("max\n", None), ("-1\n", None), ("1000\n", Some(1000))] {
            std::fs::write(root.path().join("limit"), text).unwrap();
            assert_eq!(number(&root.path().join("limit")), expected);
        }
        assert_eq!(number(&root.path().join("absent")), None);
    }

    #[test]
    fn the_smallest_limit_of_the_ancestors_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("a/b");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::write(root.path().join("memory.max"), "max\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        std::fs::write(leaf.join("memory.max"), "2000\n").unwrap();
        let smallest = |path| smallest_limit(&up_to(root.path(), path, CgroupVersion::Two));
        assert_eq!(smallest("/a/b"), Some(1000));
        assert_eq!(smallest("/"), None);
    }

    #[test]
    fn processor_time_follows_what_the_memory_buys() {
        assert!(cpus(Some(512)) <= 512.0 / 1769.0);
        assert!(cpus(Some(10_240)) <= 6.0);
        assert!(cpus(None) > 0.0);
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
