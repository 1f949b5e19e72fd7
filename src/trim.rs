//! Gives memory that is free but kept back to the system when there is a pause. Apart because it takes a call of the C library's, with `unsafe`.
#![expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]

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
