//! What logferry tells systemd, as a unit with `Type=notify`: that it is ready, what it does, that it stops, that it is alive. Without systemd
//! nothing is told to anybody.

use std::time::Duration;

use sd_notify::NotifyState;

/// The way to systemd.
#[derive(Debug, Default)]
pub struct Systemd {
    /// What was said last, so that it is said once.
    status: String,
}

impl Systemd {
    /// How often it wants to hear that the service is alive (`WatchdogSec=`); `None` where it does not.
    #[must_use]
    pub fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|time| !time.is_zero())
    }

    /// All sources are open.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// What it does, in a line for `systemctl status`.
    pub fn status(&mut self, words: &str) {
        let words = words.replace('\n', " ");
        if words != self.status {
            tell(&[NotifyState::Status(&words)]);
            self.status = words;
        }
    }

    /// It has been told to stop.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// It is alive.
    pub fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }
}

/// Where systemd does not listen any more, nothing is gained by failing.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd can't be told");
    }
}
