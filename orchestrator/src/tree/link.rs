//! Which links stay inside of a tree.

/// Whether a link at `path` can lead to no place outside, whatever other links are in the tree.
///
/// A `..` is allowed at the beginning only: there the folders above are real ones, and behind a name they may be those of
/// another link.
pub(super) fn leads_inside(path: &str, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains(char::is_control) {
        return false;
    }
    let mut above = path.matches('/').count();
    let mut parts = target.split('/').filter(|part| !["", "."].contains(part));
    let mut named = false;
    parts.all(|part| match part {
        ".." if named => false,
        ".." => match above.checked_sub(1) {
            Some(left) => {
                above = left;
                true
            }
            None => false,
        },
        _ => {
            named = true;
            true
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_climb_only_within_its_tree() {
        for (path, target) in [
            ("a", "b"),
            ("a", "./b/c"),
            ("a/b/c", "../../d"),
            ("a/b", ".."),
            ("a", "a"),
            ("node_modules/.bin/tsc", "../typescript/bin/tsc"),
        ] {
            assert!(leads_inside(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", ""),
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("a/b", "../../c"),
            // `b` may be a link to a folder above.
            ("a/c", "b/../.."),
            ("a/c", "b/.."),
            ("a", "b\nc"),
        ] {
            assert!(!leads_inside(path, target), "{path} -> {target}");
        }
    }
}
