//! Being told to end: noted only, so that the demo ends in good order, with no child and no directory left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT, SIGTERM and SIGHUP set what is returned.
///
/// # Errors
/// The system gives no handler or no thread.
pub fn listen() -> std::io::Result<Arc<AtomicBool>> {
    let noted = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&noted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        note.store(true, Ordering::Relaxed);
    })?;
    Ok(noted)
}
