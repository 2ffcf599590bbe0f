//! Giving back to the system what the allocator keeps.
//!
//! Owns: the only call of the project that is not safe Rust; every other crate forbids such. Must not know: what the memory was
//! for, when it is worth doing.

/// Gives back to the system every page that nothing lies on; what was freed stays with the process otherwise. Blocks:
/// whoever allocates from the arena that is being looked through waits meanwhile.
///
/// Does nothing where the allocator is another one than glibc's.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: it takes no pointer, and may be called at any time from any thread (`MT-Safe`). Live allocations stay as they are.
    let _whether_anything_was_given_back = unsafe { libc::malloc_trim(0) };
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    /// Resident KiB.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_was_freed_between_what_lives_goes_back() {
        let all: Vec<Vec<u8>> = (0..64 * 1024).map(|_| vec![1; 1024]).collect();
        // What stays lies between what goes: by itself nothing of it is given back.
        let stay: Vec<Vec<u8>> =
            all.into_iter().enumerate().filter(|(n, _)| n % 64 == 0).map(|(_, v)| v).collect();
        let before = resident();
        super::give_back();
        let after = resident();
        assert!(after + 32 * 1024 < before, "{before} KiB, and {after} afterwards");
        assert!(stay.iter().all(|one| one.iter().all(|byte| *byte == 1)));
    }
}
