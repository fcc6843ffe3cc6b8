//! Gives memory back once the start is over.
//!
//! A keeper is the whole `dunlin` program, and starting a workload touches megabytes of it (decoding, formatting, the
//! dynamic linker) that are never needed again. Those pages are the file's own and unchanged: dropping them costs one
//! page fault each if they should be needed after all.

use std::fs;

use nix::errno::Errno;
use nix::poll::PollFd;

/// The stack that the calls below may use, with much to spare.
const STACK_IN_USE: usize = 32 * 1024;

/// Start and length of a mapping.
type Range = (usize, usize);

/// Drops from this process every page of unchanged, read-only file mappings, of the stack that is not in use, and of the
/// heap that is free. Best effort.
pub(super) fn slim() {
    if let Some(code) = drop_all_but_code() {
        drop_pages(code);
    }
}

/// The same, then waits until one of these is ready. The program's code goes last, and nothing but the wait comes after
/// it: each page that is touched again brings its neighbours along.
pub(super) fn slim_and_wait(fds: &mut [PollFd<'_>]) -> nix::Result<i32> {
    let code = drop_all_but_code();
    let (start, length) = code.unwrap_or_default();
    let (first, count) = (fds.as_mut_ptr().cast::<libc::pollfd>(), fds.len() as libc::nfds_t);
    // SAFETY: for the code as in `drop_pages` (no length, no page); `PollFd` is a transparent `pollfd`, and as many of
    // them as are said live for the call.
    let ready = unsafe {
        libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        libc::poll(first, count, -1)
    };
    Errno::result(ready)
}

/// Gives the mapping of the program's own code.
fn drop_all_but_code() -> Option<Range> {
    let smaps = fs::read_to_string("/proc/self/smaps").ok()?;
    let files = unchanged(&smaps);
    let stack = unused_stack(&smaps, std::ptr::from_ref(&smaps).addr());
    drop(smaps);
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: gives free memory back and touches nothing else.
        let _whether_it_did = unsafe { libc::malloc_trim(0) };
    }
    if let Some((start, length)) = stack {
        // SAFETY: the stack grows down and this process has one thread without signal handlers: what lies this far below
        // a variable of the innermost frame belongs to calls that have returned.
        let _best_effort = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    let here = slim as fn() as usize;
    let (code, others): (Vec<Range>, Vec<Range>) =
        files.into_iter().partition(|(start, length)| (*start..start.saturating_add(*length)).contains(&here));
    others.into_iter().for_each(drop_pages);
    code.first().copied()
}

fn drop_pages((start, length): Range) {
    // SAFETY: a private mapping of a file that is not writable and of which no page was ever copied ("Anonymous" is
    // zero; relocated pages would count there) has the same content when it is read from the file again, so dropping
    // its pages changes nothing that any reference could see.
    let _best_effort = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

/// Start and length of the whole pages of the stack that lie well below this address in it.
fn unused_stack(smaps: &str, here: usize) -> Option<Range> {
    let line = smaps.lines().find(|line| line.ends_with("[stack]"))?;
    let (start, rest) = line.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(rest.split(' ').next()?, 16).ok()?;
    let unused = here.checked_sub(STACK_IN_USE)? & !0xffff;
    (start < unused && here < end).then(|| (start, unused - start))
}

/// Start and length of each mapping of a file that cannot be written and has no page of its own.
fn unchanged(smaps: &str) -> Vec<Range> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (fields.next(), fields.next()) else { continue };
        if let Some((start, end)) = first.split_once('-') {
            let range = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok());
            let fixed = second.starts_with('r') && second.as_bytes().get(1) == Some(&b'-') && second.ends_with('p');
            let of_file = line.contains(" /");
            current = range.filter(|_| fixed && of_file).map(|(start, end)| (start, end.saturating_sub(start)));
        } else if first == "Anonymous:"
            && let Some(mapping) = current.take()
            && second == "0"
        {
            found.push(mapping);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_mappings_of_files_are_dropped() {
        let smaps = "1000-3000 r-xp 00000000 00:01 7 /bin/x\nAnonymous: 0 kB\n\
                     3000-4000 r--p 00000000 00:01 7 /bin/x\nAnonymous: 4 kB\n\
                     4000-5000 rw-p 00000000 00:01 7 /bin/x\nAnonymous: 0 kB\n\
                     5000-6000 r--p 00000000 00:00 0 [vvar]\nAnonymous: 0 kB\n\
                     6000-7000 r--s 00000000 00:01 8 /tmp/y\nAnonymous: 0 kB\n";
        assert_eq!(unchanged(smaps), [(0x1000, 0x2000)]);
    }

    #[test]
    fn only_the_stack_below_is_dropped() {
        let smaps = "7f0000000000-7f0000100000 rw-p 00000000 00:00 0    [stack]\n";
        assert_eq!(unused_stack(smaps, 0x7f00_000f_0000), Some((0x7f00_0000_0000, 0xe_0000)));
        assert_eq!(unused_stack(smaps, 0x7f00_0000_4000), None);
        assert_eq!(unused_stack(smaps, 0x1000), None, "another thread's stack");
        assert_eq!(unused_stack("", 0x7f00_000f_0000), None);
    }

    #[test]
    fn the_process_goes_on() {
        slim();
        let (read, write) = std::io::pipe().unwrap();
        drop(write);
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&read), nix::poll::PollFlags::POLLIN)];
        assert_eq!(slim_and_wait(&mut fds), Ok(1), "a closed pipe is ready");
        assert!(!unchanged(&fs::read_to_string("/proc/self/smaps").unwrap()).is_empty());
    }
}
