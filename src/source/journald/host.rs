//! What the kernel tells of this boot and of this process. Thin.

use super::format::Id;

/// The boot that is going on.
pub(super) fn boot_id() -> Option<Id> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok().map(u128::to_be_bytes)
}

/// The service that this process runs in.
pub(super) fn own_unit() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(unit_in).map(str::to_owned)
}

/// The service in a line as `0::/system.slice/logferry.service`.
fn unit_in(line: &str) -> Option<&str> {
    let path = line.splitn(3, ':').nth(2)?;
    // A service may have put its processes into groups below its own.
    path.split('/').rfind(|part| part.ends_with(".service") && !part.starts_with("user@"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_found_in_what_the_kernel_says() {
        assert_eq!(unit_in("0::/system.slice/logferry.service"), Some("logferry.service"));
        assert_eq!(unit_in("1:name=systemd:/system.slice/logferry.service/worker"), Some("logferry.service"));
        assert_eq!(unit_in("0::/user.slice/user-0.slice/session-3.scope"), None);
        assert_eq!(unit_in("0::/user.slice/user-1000.slice/user@1000.service/app.slice/logferry.service"), Some("logferry.service"));
    }
}
