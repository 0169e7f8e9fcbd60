//! What of each document a query returns.

use serde_json::Value as Json;
use serving::json::{Member, Members};

use super::{Fault, Field};

/// Fields to keep, or to leave out; a field that is named is taken with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Projection {
    keep: bool,
    paths: Vec<Vec<String>>,
}

impl Projection {
    /// Reads `{"a": 1, "b.c": 1}` or `{"a": 0}`; an empty object asks for whole documents.
    pub(super) fn parse(value: &Json) -> Result<Option<Self>, Fault> {
        let fault = || {
            let expected =
                "an object of fields, either all with 1 (to keep) or all with 0 (to leave out)";
            Fault::operand("$project", expected)
        };
        let mut keep = None;
        let mut paths = Vec::new();
        for (name, value) in value.as_object().ok_or_else(fault)? {
            let wanted = match value {
                Json::Bool(wanted) => *wanted,
                Json::Number(number) => match number.as_u64() {
                    Some(1) => true,
                    Some(0) => false,
                    _ => return Err(fault()),
                },
                _ => return Err(fault()),
            };
            // The id comes with each result as a field of its own.
            let Field::Path(path) = Field::parse(name)? else {
                continue;
            };
            if *keep.get_or_insert(wanted) != wanted {
                return Err(fault());
            }
            paths.push(path);
        }
        Ok(keep.map(|keep| Self { keep, paths }))
    }

    /// Applies it to a document's text: what is left of it keeps its text and its order.
    pub(crate) fn apply(&self, data: &str) -> serde_json::Result<String> {
        let paths: Vec<&[String]> = self.paths.iter().map(Vec::as_slice).collect();
        let mut text = String::with_capacity(data.len());
        self.write(data, &paths, &mut text)?;
        Ok(text)
    }

    /// Writes one object; `paths` begin in it.
    fn write(
        &self,
        object: &str,
        paths: &[&[String]],
        text: &mut String,
    ) -> serde_json::Result<()> {
        let Members(members) = serde_json::from_str(object)?;
        text.push('{');
        let mut first = true;
        for Member { name, key, value } in members {
            let below: Vec<&[String]> = paths
                .iter()
                .filter_map(|path| path.split_first())
                .filter_map(|(first, rest)| (*first == name).then_some(rest))
                .collect();
            let named = below.iter().any(|rest| rest.is_empty());
            let inside = !named && !below.is_empty() && value.starts_with('{');
            // What is named is kept or left out; what is not, the opposite.
            if !inside && named != self.keep {
                continue;
            }
            if !std::mem::take(&mut first) {
                text.push(',');
            }
            text.push_str(key);
            text.push(':');
            match inside {
                true => self.write(value, &below, text)?,
                false => text.push_str(value),
            }
        }
        text.push('}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_kept_or_left_out() {
        let document = json!({"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": [4]}).to_string();
        let table = [
            (json!({"a": 1}), json!({"a": 1})),
            (
                json!({"b.c": 1, "f": true}),
                json!({"b": {"c": 2}, "f": [4]}),
            ),
            (
                json!({"b.d": 1, "b.c": 1}),
                json!({"b": {"c": 2, "d": {"e": 3}}}),
            ),
            (json!({"a.x": 1, "y": 1}), json!({})),
            (json!({"a": 0, "b.d": 0}), json!({"b": {"c": 2}, "f": [4]})),
            (json!({"_id": 1, "a": 1}), json!({"a": 1})),
        ];
        for (project, expected) in table {
            let projection = Projection::parse(&project).unwrap().unwrap();
            let projected: Json =
                serde_json::from_str(&projection.apply(&document).unwrap()).unwrap();
            assert_eq!(projected, expected, "{project}");
        }
        assert_eq!(Projection::parse(&json!({})).unwrap(), None);
    }

    #[test]
    fn what_is_left_keeps_its_text() {
        let document = r#"{"z": 1.10, "b": {"y":12345678901234567890123, "x" :[1e2 , -0.0], "w": 1},
            "\u0061": "\u00e9", "a": 2}"#;
        let table = [
            (
                json!({"b.w": 0}),
                r#"{"z":1.10,"b":{"y":12345678901234567890123,"x":[1e2 , -0.0]},"\u0061":"\u00e9","a":2}"#,
            ),
            (
                json!({"b.x": 1, "z": 1}),
                r#"{"z":1.10,"b":{"x":[1e2 , -0.0]}}"#,
            ),
            (json!({"a": 1}), r#"{"\u0061":"\u00e9","a":2}"#),
        ];
        for (project, expected) in table {
            let projection = Projection::parse(&project).unwrap().unwrap();
            assert_eq!(projection.apply(document).unwrap(), expected, "{project}");
        }
    }
}
