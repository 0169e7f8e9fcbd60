//! JSON whose text must not change: the members of an object in the order of its text, with the digits of numbers and the
//! escapes of strings.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One member: its name, and the text of its name and of its value.
#[derive(Debug)]
pub struct Member<'a> {
    pub name: String,
    pub key: &'a str,
    pub value: &'a str,
}

/// All members of an object; a name that comes twice is in it twice.
#[derive(Debug)]
pub struct Members<'a>(pub Vec<Member<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object).map(Self)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push(Member {
                name: serde_json::from_str(key.get()).map_err(serde::de::Error::custom)?,
                key: key.get(),
                value: value.get(),
            });
        }
        Ok(members)
    }
}
