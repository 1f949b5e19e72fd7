//! Dead letters and spilled messages as they are shown and written out: plain data. Bytes that are no text travel as base64 beside it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A message's key or value: text, or base64 where it is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bytes {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Base64(String),
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes::Text(String::new())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        String::from_utf8(bytes).map_or_else(|error| Bytes::Base64(STANDARD.encode(error.as_bytes())), Bytes::Text)
    }
}

impl Bytes {
    /// The bytes; what is no base64 has none.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Bytes::Text(text) => text.as_bytes().to_vec(),
            Bytes::Base64(text) => STANDARD.decode(text).unwrap_or_default(),
        }
    }
}

/// A letter in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Its event's id.
    pub id: String,
    /// The source it came from.
    pub source: String,
    /// The topic that refused it.
    pub topic: String,
    /// Why, in one word.
    pub reason: String,
    /// When, RFC 3339.
    pub time: String,
    /// The size of its value.
    pub bytes: u64,
    /// Whether the same event stands before it in the list: an event may be put there twice over a kill.
    pub again: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct List {
    /// Oldest first.
    pub letters: Vec<Entry>,
    /// What of the files can't be read, a sentence each.
    pub unreadable: Vec<String>,
}

/// A whole letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Letter {
    /// As the list has it.
    pub entry: Entry,
    /// What Kafka said, for people.
    pub words: String,
    /// The message's key.
    pub key: Bytes,
    /// Its headers.
    pub headers: Vec<(String, Bytes)>,
    /// Its value.
    pub value: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_come_through(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let text = serde_json::to_string(&Bytes::from(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap().to_vec(), bytes);
        }
    }
}
