//! Making sockets, and words for why one can't be had. Apart because errors of bind are what people meet first.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Gid, Mode, Uid, chmod, chown};
use socket2::{Domain, SockAddr, Socket, Type};

use super::address::Address;
use super::{Settings, udp};
use crate::source::syslog::intake::Transport;

/// The first descriptor that systemd hands over (`sd_listen_fds(3)`).
const FIRST_HANDED: RawFd = 3;

/// A socket of datagrams at this address, or why there is none.
pub(super) fn datagrams(settings: &Settings, address: &Address) -> Result<Socket, String> {
    let socket = match address {
        Address::Ip(_, ip) => bound(*ip, Type::DGRAM, settings.udp_sockets > 1).map_err(|error| in_words(&error, address))?,
        Address::Path(_, path) => at_path(settings, path, Type::DGRAM).map_err(|error| in_words(&error, address))?,
        Address::Systemd(_) => return Err("systemd hands it over".into()),
    };
    if let Address::Ip(..) = address {
        use std::os::fd::AsFd;
        match udp::set_buffer(socket.as_fd(), settings.receive_buffer) {
            Ok(granted) if granted < settings.receive_buffer => {
                tracing::warn!(source = %settings.source, %address, granted, wanted = settings.receive_buffer, "the kernel keeps less than receive_buffer for this socket, and drops what does not fit: sysctl -w net.core.rmem_max={}", settings.receive_buffer);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(source = %settings.source, %address, %error, "the receive buffer can't be set"),
        }
    }
    Ok(socket)
}

/// A listening socket at this address, or why there is none.
pub(super) fn streams(settings: &Settings, address: &Address) -> Result<Socket, String> {
    let socket = match address {
        Address::Ip(_, ip) => bound(*ip, Type::STREAM, false),
        Address::Path(_, path) => at_path(settings, path, Type::STREAM),
        Address::Systemd(_) => return Err("systemd hands it over".into()),
    };
    let backlog = i32::try_from(settings.max_connections).unwrap_or(i32::MAX).clamp(128, 4096);
    socket
        .and_then(|socket| {
            socket.listen(backlog)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .map_err(|error| in_words(&error, address))
}

fn bound(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // [::] takes IPv4 as well; a given IPv6 address could not.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn at_path(settings: &Settings, path: &Path, kind: Type) -> io::Result<Socket> {
    remove_left_over(path, kind)?;
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    chmod(path, Mode::from_raw_mode(settings.socket_mode))?;
    if let Some((owner, group)) = settings.socket_owner {
        chown(path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)))?;
    }
    Ok(socket)
}

/// Removes a socket that an earlier run has left; never one that somebody still reads, nor anything else.
fn remove_left_over(path: &Path, kind: Type) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket has this name"));
    }
    if Socket::new(Domain::UNIX, kind, None)?.connect(&SockAddr::unix(path)?).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    std::fs::remove_file(path)
}

/// Takes the name of a socket away at the end.
pub(super) fn leave(address: &Address) {
    if let Address::Path(_, path) = address {
        // Somebody may have done so already.
        drop(std::fs::remove_file(path));
    }
}

fn in_words(error: &io::Error, address: &Address) -> String {
    let port = match address {
        Address::Ip(_, ip) => ip.port(),
        _ => 0,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program: stop that (ss -lpn tells which one it is), or listen elsewhere")
        }
        io::ErrorKind::PermissionDenied if (1..1024).contains(&port) => {
            format!(
                "{address} is for privileged programs: give logferry CAP_NET_BIND_SERVICE, let systemd open it (systemd://), or use a port from 1024 on"
            )
        }
        io::ErrorKind::PermissionDenied => format!("{address} can't be had: this user may not write there"),
        io::ErrorKind::AddrNotAvailable => format!("{address} is no address of this machine (yet)"),
        io::ErrorKind::NotFound => format!("{address}: there is no such directory"),
        _ => format!("{address} can't be had: {error}"),
    }
}

/// The sockets that systemd hands over under this name, and how what comes there is shipped.
#[expect(unsafe_code, reason = "the descriptors that systemd hands over are known by their numbers alone")]
pub(super) fn of_systemd(address: &Address) -> io::Result<Vec<(Socket, Transport)>> {
    let Address::Systemd(wanted) = address else { return Ok(Vec::new()) };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != std::process::id().to_string() {
        return Ok(Vec::new());
    }
    let count: RawFd = variable("LISTEN_FDS").parse().unwrap_or(0);
    let names = variable("LISTEN_FDNAMES");
    let mut found = Vec::new();
    for (number, name) in (FIRST_HANDED..FIRST_HANDED.saturating_add(count)).zip(names.split(':')) {
        if *name != **wanted {
            continue;
        }
        // SAFETY: by the protocol of sd_listen_fds(3) these numbers, which the variables for this process name, are open and nobody else's; each is
        // taken once, since a source's names differ and sources take their sockets once, and duplicated, so that the number itself stays systemd's.
        let borrowed = unsafe { std::mem::ManuallyDrop::new(OwnedFd::from_raw_fd(number)) };
        let socket = Socket::from(borrowed.try_clone()?);
        let datagrams = socket.r#type()? == Type::DGRAM;
        let local = socket.domain()? == Domain::UNIX;
        let transport = match (datagrams, local) {
            (true, true) => Transport::Unixgram,
            (true, false) => Transport::Udp,
            (false, true) => Transport::Unix,
            (false, false) => Transport::Tcp,
        };
        socket.set_nonblocking(!datagrams)?;
        found.push((socket, transport));
    }
    Ok(found)
}
