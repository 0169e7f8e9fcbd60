//! What a word was meant to be that nothing has.

/// The minimum similarity (Jaro-Winkler) of a name that is suggested in place of an unknown name.
const SIMILAR: f64 = 0.8;
/// The maximum length of a name that is compared with others, in bytes: the longest name of a domain.
const LONGEST_COMPARED: usize = 63;
/// The maximum number of names in a list.
const MOST_LISTED: usize = 8;

/// Returns the most similar known word as a suggestion, or known words.
pub fn meant(word: &str, known: &[&str]) -> String {
    let compared = |text: &str| text.len() <= LONGEST_COMPARED;
    let nearest = known
        .iter()
        .filter(|other| compared(word) && compared(other))
        .map(|other| (similarity(word, other), other))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, nearest)) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "none is defined".to_owned(),
        None => listed(known),
    }
}

/// From 0 to 1. One letter that is wrong, missing, too much or in its neighbour's place is similar in short words too.
fn similarity(word: &str, other: &str) -> f64 {
    let is_slip = word.len().min(other.len()) > 2 && strsim::osa_distance(word, other) == 1;
    strsim::jaro_winkler(word, other).max(if is_slip { SIMILAR } else { 0.0 })
}

pub(crate) fn listed(known: &[&str]) -> String {
    let shown = &known[..known.len().min(MOST_LISTED)];
    let more = match known.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("expected one of: {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_or_all() {
        let known = ["store", "web", "web-server"];
        for (word, expected) in [
            ("stroe", "did you mean `store`?"),
            ("web-sever", "did you mean `web-server`?"),
            ("wbe", "did you mean `web`?"),
            ("wob", "did you mean `web`?"),
            ("we", "did you mean `web`?"),
            ("ai", "expected one of: store, web, web-server"),
        ] {
            assert_eq!(meant(word, &known), expected, "{word}");
        }
        assert_eq!(meant("web", &[]), "none is defined");
    }
}
