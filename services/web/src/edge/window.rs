//! The part of a query's results that a caller asks for, as a query. All other members of the query keep their text.

use serving::json::Members;

const DEFAULT_LIMIT: u64 = 50;
const LIMIT: &str = "$limit";
const SKIP: &str = "$skip";

/// The results `skip..skip + limit` of a query, which may have a `$skip` and a `$limit` of its own.
///
/// Own values that are not numbers are left for the database, which describes the fault.
pub(super) fn window(
    query: &str,
    limit: Option<u64>,
    skip: Option<u64>,
) -> serde_json::Result<String> {
    let query = match query.trim() {
        "" => "{}",
        query => query,
    };
    let Members(members) = serde_json::from_str(query)?;
    // As in any JSON object, the last one of a name counts.
    let own = |name: &str| {
        let member = members.iter().rev().find(|member| member.name == name);
        member.map(|member| serde_json::from_str::<u64>(member.value).ok())
    };
    let (own_limit, own_skip) = (own(LIMIT), own(SKIP));
    let skip = skip.unwrap_or(0);
    let mut parts: Vec<String> = members
        .iter()
        .filter(|member| match &*member.name {
            LIMIT => own_limit == Some(None),
            SKIP => own_skip == Some(None),
            _ => true,
        })
        .map(|member| format!("{}:{}", member.key, member.value))
        .collect();
    match own_limit {
        None => parts.push(format!("\"{LIMIT}\":{}", limit.unwrap_or(DEFAULT_LIMIT))),
        Some(Some(own)) => {
            let left = own.saturating_sub(skip);
            parts.push(format!("\"{LIMIT}\":{}", limit.unwrap_or(left).min(left)));
        }
        Some(None) => {}
    }
    if own_skip != Some(None) {
        let skip = own_skip.flatten().unwrap_or(0).saturating_add(skip);
        parts.push(format!("\"{SKIP}\":{skip}"));
    }
    Ok(format!("{{{}}}", parts.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_within_the_querys_own() {
        let table = [
            ("", None, None, r#"{"$limit":50,"$skip":0}"#),
            ("{}", Some(7), Some(3), r#"{"$limit":7,"$skip":3}"#),
            (
                r#"{"$sort": {"z": 1, "a": -1}, "n": 12345678901234567890123, "m": 1.10}"#,
                None,
                Some(2),
                r#"{"$sort":{"z": 1, "a": -1},"n":12345678901234567890123,"m":1.10,"$limit":50,"$skip":2}"#,
            ),
            (
                r#"{"$limit": 80}"#,
                None,
                None,
                r#"{"$limit":80,"$skip":0}"#,
            ),
            (
                r#"{"$limit": 80}"#,
                Some(10),
                Some(75),
                r#"{"$limit":5,"$skip":75}"#,
            ),
            (
                r#"{"$limit": 80}"#,
                Some(10),
                Some(99),
                r#"{"$limit":0,"$skip":99}"#,
            ),
            (
                r#"{"$skip": 5, "$limit": 3}"#,
                Some(10),
                Some(1),
                r#"{"$limit":2,"$skip":6}"#,
            ),
            (
                r#"{"$limit": "x"}"#,
                Some(1),
                None,
                r#"{"$limit":"x","$skip":0}"#,
            ),
            (
                r#"{"$skip": -1}"#,
                None,
                Some(4),
                r#"{"$skip":-1,"$limit":50}"#,
            ),
        ];
        for (query, limit, skip, expected) in table {
            assert_eq!(window(query, limit, skip).unwrap(), expected, "{query}");
        }
        assert!(window("[]", None, None).is_err());
    }
}
