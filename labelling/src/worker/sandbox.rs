//! What a worker gives up before it reads its first request.
//!
//! In this order: limits of the system on memory, processor time, files and processes; with Landlock, where the kernel has it, every
//! right to files and to TCP; and with seccomp every system call but those on [`ALLOWED`]: memory, time, reading and writing what is
//! open, and to end. A call that is not on the list fails with `EACCES`, which the interpreter reports as an error of the code that
//! caused it. Without seccomp there is no worker: it ends at once and says why.
//!
//! Known limitations: system calls are numbered for `x86_64` and `aarch64` Linux; elsewhere functions of the interpreted tier are
//! reported as not available. Memory is bounded by address space, so what the process maps when it starts is added to the limit.

use std::io;

/// Limits that the service gives to its workers, as arguments of the command.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub memory_bytes: u64,
    pub cpu_seconds: u64,
}

/// Set for the whole process before further threads are of use; those that exist are kept to them, too.
#[cfg(target_os = "linux")]
pub fn lock_down(limits: &Limits) -> io::Result<super::protocol::Started> {
    resources(limits)?;
    let landlock = files()?;
    // Only now: Landlock needs a descriptor of its own for a moment.
    no_files()?;
    seccomp()?;
    Ok(super::protocol::Started { seccomp: true, landlock })
}

#[cfg(not(target_os = "linux"))]
pub fn lock_down(_: &Limits) -> io::Result<super::protocol::Started> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "workers need Linux"))
}

#[cfg(target_os = "linux")]
fn resources(limits: &Limits) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let mapped = mapped_bytes()?;
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::As, both(mapped + limits.memory_bytes))?;
    setrlimit(Resource::Cpu, both(limits.cpu_seconds))?;
    setrlimit(Resource::Core, both(0))?;
    setrlimit(Resource::Fsize, both(0))?;
    setrlimit(Resource::Nproc, both(0))?;
    Ok(())
}

/// What is open stays so.
#[cfg(target_os = "linux")]
fn no_files() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: Some(0) })?)
}

#[cfg(target_os = "linux")]
fn mapped_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(|| io::Error::other("/proc/self/status does not tell what is mapped"))
}

#[cfg(target_os = "linux")]
fn files() -> io::Result<bool> {
    use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus};
    let handled = |ruleset: Ruleset| -> Result<_, landlock::RulesetError> {
        let ruleset = ruleset.handle_access(AccessFs::from_all(ABI::V5))?.handle_access(AccessNet::from_all(ABI::V5))?;
        ruleset.create()?.restrict_self()
    };
    let status = handled(Ruleset::default().set_compatibility(CompatLevel::BestEffort)).map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// The calls that remain.
#[cfg(target_os = "linux")]
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    // Ends with the default action of the signal it sends to itself: how the process aborts when memory is refused.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

#[cfg(target_os = "linux")]
fn seccomp() -> io::Result<()> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};
    let rules = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let deny = SeccompAction::Errno(libc::EACCES as u32);
    let filter = SeccompFilter::new(rules, deny, SeccompAction::Allow, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    apply_filter_all_threads(&program).map_err(io::Error::other)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    const PROBE: &str = "worker::sandbox::tests::what_is_locked_away_is_denied";
    const INSIDE: &str = "DESIRELINE_LABELLING_PROBE";

    /// Runs itself once more as a process that locks itself down and tries.
    #[test]
    fn what_is_locked_away_is_denied() {
        if std::env::var_os(INSIDE).is_some() {
            return probe();
        }
        let program = std::env::current_exe().expect("a program");
        let output = Command::new(program).args(["--exact", PROBE, "--nocapture", "--test-threads=1"]).env(INSIDE, "1").output();
        let output = output.expect("the program runs");
        let told = String::from_utf8_lossy(&output.stdout);
        for denied in ["read", "list", "write", "connect", "spawn", "thread", "open files"] {
            assert!(told.contains(&format!("{denied}: denied")), "{denied}\n{told}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(told.contains("memory: denied"), "{told}");
    }

    fn probe() {
        lock_down(&Limits { memory_bytes: 64 << 20, cpu_seconds: 10 }).expect("locked down");
        let tell = |what: &str, denied: bool| println!("{what}: {}", if denied { "denied" } else { "allowed" });
        tell("read", std::fs::read("/etc/passwd").is_err());
        tell("list", std::fs::read_dir("/").is_err());
        tell("write", std::fs::write("/tmp/desireline-labelling-probe", "x").is_err());
        tell("connect", std::net::TcpStream::connect("127.0.0.1:1").is_err_and(|error| error.raw_os_error() == Some(libc::EACCES)));
        tell("spawn", Command::new("/bin/true").spawn().is_err());
        tell("thread", std::thread::Builder::new().spawn(|| ()).is_err());
        tell("open files", std::fs::File::open("/dev/null").is_err());
        let mut memory = Vec::<u8>::new();
        tell("memory", memory.try_reserve_exact(256 << 20).is_err());
    }
}
