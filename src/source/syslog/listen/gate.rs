//! Who may send, and how fast. Pure: the caller has the clock.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Senders whose rate is watched; beyond it those that were quiet are forgotten, and if none was, all are.
const WATCHED: usize = 16_384;

/// A range of IP addresses, as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads an address, with or without the number of bits that count.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Network, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| format!("{text:?} is no network"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| {
            bits.parse::<u8>().ok().filter(|bits| *bits <= most).ok_or(format!("{text:?} has more than {most} bits"))
        })?;
        Ok(Network { address, bits })
    }

    /// Whether an address lies in it. IPv4 addresses that come through an IPv6 socket are IPv4 addresses.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let (own, other) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()) << 96, u128::from(other.to_bits()) << 96),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits()),
            _ => return false,
        };
        self.bits == 0 || (own ^ other) >> (128 - u32::from(self.bits)) == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Whether a sender may send: everybody, if no network is named.
#[must_use]
pub fn allows(networks: &[Network], address: IpAddr) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.holds(address))
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    since: Instant,
}

/// How many messages each sender may still send: `peer_rate` a second, and as many at once.
#[derive(Debug)]
pub struct Rates {
    rate: f64,
    buckets: HashMap<IpAddr, Bucket>,
}

impl Rates {
    /// At most `rate` messages a second from each sender.
    #[must_use]
    pub fn new(rate: u32) -> Rates {
        Rates { rate: f64::from(rate), buckets: HashMap::new() }
    }

    /// How many of `messages` a sender may send now; they are taken.
    pub fn take(&mut self, sender: IpAddr, messages: usize, now: Instant) -> usize {
        if self.buckets.len() >= WATCHED && !self.buckets.contains_key(&sender) {
            self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.since) < Duration::from_secs(1));
            if self.buckets.len() >= WATCHED {
                self.buckets.clear();
            }
        }
        let rate = self.rate;
        let bucket = self.buckets.entry(sender).or_insert(Bucket { tokens: rate, since: now });
        bucket.tokens = (bucket.tokens + now.saturating_duration_since(bucket.since).as_secs_f64() * rate).min(rate);
        bucket.since = now;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a 32-bit rate")]
        let granted = messages.min(bucket.tokens.max(0.0) as usize);
        #[expect(clippy::cast_precision_loss, reason = "a number of messages read at once")]
        let taken = granted as f64;
        bucket.tokens -= taken;
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1"), "IPv4 through a socket of both");
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1") && holds("::/0", "::1"));
        for wrong in ["", "10.0.0.0/33", "::/129", "ten", "10.0.0.0/x", "10.0.0/8"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sender_that_is_too_fast_costs_nobody_else_anything() {
        let (mut rates, start) = (Rates::new(100), Instant::now());
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        assert_eq!((rates.take(one, 150, start), rates.take(one, 1, start), rates.take(other, 70, start)), (100, 0, 70));
        assert_eq!(rates.take(one, 150, start + Duration::from_millis(500)), 50);
        for number in 0..40_000_u32 {
            rates.take(IpAddr::V4(number.into()), 1, start);
        }
        assert!(rates.buckets.len() <= WATCHED);
    }
}
