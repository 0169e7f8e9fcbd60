//! Checks that a text is one JSON object, without keeping any of it.
//!
//! serde_json's own type for what is ignored would let through numbers, surrogates and depths that its values refuse.

use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, MapAccess, SeqAccess, Visitor};

/// A JSON object; what is in it is read, and dropped at once.
pub(crate) struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Anything)?;
        Ok(Self)
    }
}

/// Where a JSON text has `\u0000`, in bytes. PostgreSQL's `jsonb` has no such texts, and SQLite's functions end a text there.
pub(crate) fn nul(json: &str) -> Option<usize> {
    let escapes = json.match_indices("\\u0000").map(|(offset, _)| offset);
    let mut escapes = escapes.filter(|offset| {
        let before = json[..*offset].bytes().rev();
        before.take_while(|byte| *byte == b'\\').count() % 2 == 0
    });
    escapes.next()
}

struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_differs_from_an_escaped_backslash() {
        let table = [
            (r#"{"a":"\u0000"}"#, Some(6)),
            (r#"{"\u0000":1}"#, Some(2)),
            (r#"{"a":"\\u0000"}"#, None),
            (r#"{"a":"\\u0000\\\u0000"}"#, Some(15)),
            (r#"{"a":"u0000"}"#, None),
        ];
        for (text, expected) in table {
            assert_eq!(nul(text), expected, "{text}");
        }
    }

    #[test]
    fn objects_are_what_serde_json_reads_as_a_map() {
        let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let texts = [
            r#"{}"#,
            r#"{"a":[1,-2,3.5e3,null,true,{"b":"\ud83d\ude00 \n"}],"a":2}"#,
            r#" {"a" : 18446744073709551616 } "#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":1e400}"#,
            r#"{"a":01}"#,
            "{\"a\":\"\t\"}",
            r#"{1:2}"#,
            r#"{"a":1,}"#,
            r#"{"a":1} {}"#,
            r#"[{}]"#,
            r#""{}""#,
            r#"{"a":"#,
            r#""#,
            &deep(120),
            &deep(127),
            &deep(200),
        ];
        for text in texts {
            let kept = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
            let read = serde_json::from_str::<Object>(text);
            let cause = |error: serde_json::Error| error.to_string();
            assert_eq!(
                read.map(drop).map_err(cause),
                kept.map(drop).map_err(cause),
                "{text}"
            );
        }
    }
}
