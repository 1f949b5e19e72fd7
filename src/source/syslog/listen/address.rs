//! Where a syslog source listens, as it is written in `listen`. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::source::syslog::intake::Transport;

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port: UDP, TCP, TLS or RELP. `[::]` takes IPv4 as well.
    Ip(Transport, SocketAddr),
    /// A socket in the file system: a stream or datagrams.
    Path(Transport, PathBuf),
    /// A socket that systemd hands over, by the name that its unit gives it.
    Systemd(Arc<str>),
}

impl Address {
    /// Reads `udp://0.0.0.0:514`, `tcp://[::]:514`, `tls://…`, `relp://…`, `unix:///run/x`, `unixgram:///dev/log`, `systemd://NAME`.
    ///
    /// # Errors
    /// What is wrong; and what would be right.
    pub fn parse(text: &str) -> Result<Address, (String, String)> {
        let wrong = |wrong: String, right: &str| Err((wrong, right.to_owned()));
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong(
                format!("{text:?} names no transport"),
                "begin with udp://, tcp://, tls://, relp://, unix://, unixgram:// or systemd://",
            );
        };
        let transport = match scheme {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            "relp" => Transport::Relp,
            "unix" => Transport::Unix,
            "unixgram" => Transport::Unixgram,
            "systemd" if rest.is_empty() || rest.contains(['/', ':']) => {
                return wrong(format!("{rest:?} is no name of a socket"), "write the unit's FileDescriptorName=, as \"systemd://syslog\"");
            }
            "systemd" => return Ok(Address::Systemd(rest.into())),
            other => return wrong(format!("{other:?} is no transport"), "there are udp, tcp, tls, relp, unix, unixgram and systemd"),
        };
        if matches!(transport, Transport::Unix | Transport::Unixgram) {
            if !rest.starts_with('/') || rest.len() > 107 {
                return wrong(
                    format!("{rest:?} can't be the path of a socket"),
                    "write an absolute path of at most 107 bytes, as \"unix:///run/app.sock\"",
                );
            }
            return Ok(Address::Path(transport, rest.into()));
        }
        match rest.parse::<SocketAddr>() {
            Ok(address) => Ok(Address::Ip(transport, address)),
            Err(_) if rest.parse::<IpAddr>().is_ok() => {
                wrong(format!("{rest:?} has no port"), "write it behind the address, as \"udp://0.0.0.0:514\"")
            }
            Err(_) => wrong(
                format!("{rest:?} is no IP address with a port"),
                "write one, as \"udp://0.0.0.0:514\" or \"tcp://[::]:514\"; a name may mean several",
            ),
        }
    }

    /// How what comes there is shipped; of a socket of systemd's it is not known before it is there.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match self {
            Address::Ip(transport, _) | Address::Path(transport, _) => Some(*transport),
            Address::Systemd(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(transport, address) => write!(f, "{}://{address}", transport.word()),
            Address::Path(transport, path) => write!(f, "{}://{}", transport.word(), path.display()),
            Address::Systemd(name) => write!(f, "systemd://{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were_written() {
        for text in [
            "udp://0.0.0.0:514",
            "tcp://[::]:601",
            "tls://192.0.2.1:6514",
            "relp://127.0.0.1:2514",
            "unix:///run/app.sock",
            "unixgram:///dev/log",
            "systemd://syslog",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let said = |text: &str| {
            Address::parse(text).map_or_else(|(wrong, right)| format!("{wrong}; {right}"), |address| format!("good: {address}"))
        };
        let wrong =
            ["0.0.0.0:514", "http://x", "udp://0.0.0.0", "udp://localhost:514", "unix://run/x", "systemd://", "udp://1.2.3.4:99999"];
        insta::assert_snapshot!(wrong.map(said).join("\n"), @r#"
        "0.0.0.0:514" names no transport; begin with udp://, tcp://, tls://, relp://, unix://, unixgram:// or systemd://
        "http" is no transport; there are udp, tcp, tls, relp, unix, unixgram and systemd
        "0.0.0.0" has no port; write it behind the address, as "udp://0.0.0.0:514"
        "localhost:514" is no IP address with a port; write one, as "udp://0.0.0.0:514" or "tcp://[::]:514"; a name may mean several
        "run/x" can't be the path of a socket; write an absolute path of at most 107 bytes, as "unix:///run/app.sock"
        "" is no name of a socket; write the unit's FileDescriptorName=, as "systemd://syslog"
        "1.2.3.4:99999" is no IP address with a port; write one, as "udp://0.0.0.0:514" or "tcp://[::]:514"; a name may mean several
        "#);
    }
}
