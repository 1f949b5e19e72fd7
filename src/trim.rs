//! How the heap gives memory back to the system. Apart because it takes calls of the C library's, with `unsafe`.
#![expect(unsafe_code, reason = "malloc_trim and mallopt have no safe wrappers")]

/// One heap for all threads (`mallopt(3)`). Blocks are filled by a source's thread and freed by a lane's: with a heap for each, what one has freed is
/// of no use to the other, and both grow. Allocations are few, so that nobody waits. Nothing where the C library is not glibc.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    {
        const M_ARENA_MAX: core::ffi::c_int = -8;
        unsafe extern "C" {
            fn mallopt(param: core::ffi::c_int, value: core::ffi::c_int) -> core::ffi::c_int;
        }
        // SAFETY: it changes a number of the allocator's under the allocator's lock. That it is refused costs memory alone.
        let _ = unsafe { mallopt(M_ARENA_MAX, 1) };
    }
}

/// Returns free pages of the heap to the system (`malloc_trim(3)`); takes a few milliseconds, so it is for pauses. Nothing where the C library
/// is not glibc.
pub fn heap() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> core::ffi::c_int;
        }
        // SAFETY: it may be called at any time, from any thread, and touches only memory that nobody has.
        let _ = unsafe { malloc_trim(0) };
    }
}
