//! How much memory the system's allocator keeps for itself.

/// Lets a server's threads share a few arenas.
///
/// The GNU allocator gives each thread an arena of its own, up to eight for each processor, and what one freed in its
/// arena the next one does not get: a demo that had filled itself idled at 129 MB, with two arenas at 65 MB, for the same
/// processor time per measurement. The allocator reads their number only as the process starts, so the program starts
/// itself anew in its place, under the same process id, unless the environment says something already.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn share_arenas() {
    use std::os::unix::process::CommandExt as _;
    const SETTING: &str = "MALLOC_ARENA_MAX";
    const ARENAS: &str = "2";
    if std::env::var_os(SETTING).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let (Some(name), Ok(program)) = (arguments.next(), std::env::current_exe()) else {
        return;
    };
    let mut again = std::process::Command::new(program);
    again.arg0(name).args(arguments).env(SETTING, ARENAS);
    // Only comes back where it could not be done, and then the server does with what there is.
    let _ = again.exec();
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_arenas() {}
