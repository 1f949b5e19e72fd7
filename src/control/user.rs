//! Who asks: by the credentials that the kernel gives of the other end of the socket, with names, so that the log says who skipped or
//! discarded something. Nothing of it is taken from what the other end claims.

use std::fmt;
use std::os::unix::net::UnixStream;

/// A person or service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    /// Who logged in, where that is another: root by `sudo` or `su`.
    login: Option<String>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Some(login) => write!(f, "{} (logged in as {login})", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl User {
    /// The one at the other end.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn of_peer(stream: &UnixStream) -> std::io::Result<User> {
        let peer = rustix::net::sockopt::socket_peercred(stream)?;
        Ok(User::of(peer.uid.as_raw(), &format!("/proc/{}/loginuid", peer.pid.as_raw_nonzero())))
    }

    /// The one who runs this process.
    #[must_use]
    pub fn me() -> User {
        User::of(rustix::process::geteuid().as_raw(), "/proc/self/loginuid")
    }

    fn of(uid: u32, loginuid: &str) -> User {
        // Users that are in no file (LDAP) are told by number: a lookup there can hang, and this must not.
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let login = std::fs::read_to_string(loginuid).ok().and_then(|text| text.trim().parse().ok());
        User::named(uid, login, &users)
    }

    fn named(uid: u32, login: Option<u32>, users: &str) -> User {
        // u32::MAX: never set, as for services.
        let login = login.filter(|login| *login != u32::MAX && *login != uid);
        User { name: name(uid, users), login: login.map(|login| name(login, users)) }
    }
}

/// The name of a user in the lines of `/etc/passwd`.
fn name(uid: u32, users: &str) -> String {
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_by_name_and_by_who_logged_in() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        let told = |uid, login| User::named(uid, login, users).to_string();
        assert_eq!(told(0, Some(1000)), "root (logged in as alice)");
        assert_eq!(told(1000, Some(1000)), "alice");
        assert_eq!(told(0, Some(u32::MAX)), "root");
        assert_eq!(told(77, None), "uid 77");
    }

    #[test]
    fn the_kernel_says_who_is_at_the_other_end() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(User::of_peer(&here).unwrap(), User::me());
    }
}
