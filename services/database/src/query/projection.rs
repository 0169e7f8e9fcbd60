//! What of each document a query returns.

use serde_json::{Map, Value as Json};

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

    /// Applies it to a document's text.
    pub(crate) fn apply(&self, data: &str) -> serde_json::Result<String> {
        let document: Map<String, Json> = serde_json::from_str(data)?;
        let projected = if self.keep {
            let mut kept = Map::new();
            for path in &self.paths {
                keep(&document, &mut kept, path);
            }
            kept
        } else {
            let mut left = document;
            for path in &self.paths {
                leave_out(&mut left, path);
            }
            left
        };
        serde_json::to_string(&projected)
    }
}

fn keep(from: &Map<String, Json>, to: &mut Map<String, Json>, path: &[String]) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    match from.get(name) {
        Some(value) if rest.is_empty() => {
            to.insert(name.clone(), value.clone());
        }
        Some(Json::Object(members)) => {
            let inner = to
                .entry(name.as_str())
                .or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                keep(members, inner, rest);
            }
        }
        _ => {}
    }
}

fn leave_out(from: &mut Map<String, Json>, path: &[String]) {
    match path {
        [name] => drop(from.remove(name)),
        [name, rest @ ..] => {
            if let Some(Json::Object(members)) = from.get_mut(name) {
                leave_out(members, rest);
            }
        }
        [] => {}
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
}
