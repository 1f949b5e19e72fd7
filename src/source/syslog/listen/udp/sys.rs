//! Many datagrams in one system call, and what the kernel says of a socket. Apart because it is all of the listeners' `unsafe`: neither std nor rustix
//! has `recvmmsg` or `SO_MEMINFO`.
#![expect(unsafe_code, reason = "recvmmsg, SO_RXQ_OVFL and SO_MEMINFO have no safe wrapper among the libraries here")]

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Room for the ancillary data of one datagram: the drop counter.
const CONTROL: usize = 64;

/// Ancillary data, aligned as the kernel's headers are.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Room for datagrams. A slot of which little is used costs little: pages are touched only as far as datagrams reach.
pub(super) struct Slots {
    size: usize,
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

/// One datagram that was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    /// Its first byte in [`Slots::bytes`].
    pub(super) start: usize,
    /// How many bytes of it are there.
    pub(super) len: usize,
    /// Its sender; `None` on local sockets.
    pub(super) sender: Option<SocketAddr>,
    /// The kernel had to cut it.
    pub(super) cut: bool,
    /// How many datagrams the kernel had dropped on this socket when this one was queued, modulo 2^32; `None` says none, or nothing.
    pub(super) drops: Option<u32>,
}

// SAFETY: the pointers in `iovecs` and `headers` are set anew in each call of `receive` and used nowhere else.
unsafe impl Send for Slots {}

impl Slots {
    /// Room for `count` datagrams of at most `size` bytes each.
    pub(super) fn new(count: usize, size: usize) -> Slots {
        // SAFETY: all of these are plain numbers and pointers, for which zero is a value.
        let (name, iovec, header) = unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Slots {
            size,
            bytes: vec![0; count * size],
            names: vec![name; count],
            controls: vec![Control([0; CONTROL]); count],
            iovecs: vec![iovec; count],
            headers: vec![header; count],
        }
    }

    /// What the datagrams are spans of.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Waits for a datagram as long as the socket's timeout says, and takes what else is there; says how many came.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let each = self.bytes.chunks_exact_mut(self.size).zip(&mut self.names).zip(&mut self.controls);
        for (((slot, name), control), (iovec, header)) in each.zip(self.iovecs.iter_mut().zip(&mut self.headers)) {
            *iovec = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = u32::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0);
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL;
            header.msg_hdr.msg_flags = 0;
            header.msg_len = 0;
        }
        let count = u32::try_from(self.headers.len()).unwrap_or(0);
        // SAFETY: each header points to a name, a vector and control bytes of its own, all of which live in `self` and are as long as it says.
        let got = unsafe { libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, libc::MSG_WAITFORONE, ptr::null_mut()) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// The datagram in a slot of those that were received last.
    pub(super) fn datagram(&self, slot: usize) -> Option<Datagram> {
        let header = self.headers.get(slot)?;
        Some(Datagram {
            start: slot * self.size,
            len: (header.msg_len as usize).min(self.size),
            sender: self.names.get(slot).filter(|_| header.msg_hdr.msg_namelen > 0).and_then(sender),
            cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            drops: drops(&header.msg_hdr),
        })
    }
}

fn sender(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let at: *const libc::sockaddr_storage = name;
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a storage is as large and as aligned as any address, and the family says which one it holds.
            let v4 = unsafe { &*at.cast::<libc::sockaddr_in>() };
            Some((Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*at.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            // IPv4 through a socket of both is shown as what it is.
            Some((std::net::IpAddr::V6(ip).to_canonical(), u16::from_be(v6.sin6_port)).into())
        }
        _ => None,
    }
}

/// The drop counter in the ancillary data.
fn drops(header: &libc::msghdr) -> Option<u32> {
    // SAFETY: the kernel has filled the control bytes of this header, which live as long as it, and said how many; the macros stay within them.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(found) = control.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SO_RXQ_OVFL {
                return Some(ptr::read_unaligned(libc::CMSG_DATA(control).cast::<u32>()));
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

/// Asks the kernel for [`Datagram::drops`].
pub(super) fn report_drops(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_RXQ_OVFL, 1)
}

/// Asks for a receive buffer of so many bytes, beyond `net.core.rmem_max` where this process may; says how many it has now.
pub(super) fn set_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let wanted = i32::try_from(bytes).unwrap_or(i32::MAX);
    set(socket, libc::SO_RCVBUFFORCE, wanted).or_else(|_| set(socket, libc::SO_RCVBUF, wanted))?;
    // The kernel doubles what it was asked for, for its own bookkeeping.
    Ok(get::<1>(socket, libc::SO_RCVBUF)?.first().map_or(0, |bytes| *bytes as usize / 2))
}

/// How many datagrams the kernel has dropped on this socket, modulo 2^32.
pub(super) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SK_MEMINFO_DROPS is the ninth of them (linux/sock_diag.h).
    get::<9>(socket, libc::SO_MEMINFO)?.last().copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn set(socket: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    let len = u32::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: the value lives through the call and is as long as it says.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, ptr::from_ref(&value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get<const N: usize>(socket: BorrowedFd<'_>, option: i32) -> io::Result<[u32; N]> {
    let mut values = [0_u32; N];
    let mut len = u32::try_from(size_of::<[u32; N]>()).unwrap_or(0);
    // SAFETY: the values live through the call, and it is told how long they are.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, values.as_mut_ptr().cast(), &raw mut len) };
    if done == 0 { Ok(values) } else { Err(io::Error::last_os_error()) }
}
