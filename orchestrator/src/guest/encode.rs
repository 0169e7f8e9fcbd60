//! Writes values into a guest's units, environment files and scripts, so that they arrive unchanged.
//!
//! A value has no control characters but tabs: the topology and secrets are refused with others.

use std::borrow::Cow;

/// One argument of a unit's command (systemd.syntax(7), "Quoting"; systemd.service(5), "Command lines"). `%` begins a
/// specifier and `$` a variable also in quotes.
pub(crate) fn argument(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '%' => text.push_str("%%"),
            '$' => text.push_str("$$"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// One line of an environment file (systemd.exec(5), `EnvironmentFile=`).
pub(super) fn assignment(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"\n", environment_value(value))
}

/// A value in the double quotes of an environment file: a backslash is removed before these four characters, and stays
/// before others.
pub(crate) fn environment_value(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        if matches!(c, '\\' | '"' | '$' | '`') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// One word of a shell's command (POSIX, Shell Command Language, 2.2). Plain words stay readable.
pub(crate) fn word(value: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("'{}'", value.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What validation accepts: no control characters but tabs, and no code points that Unicode reserves.
    fn value() -> impl Strategy<Value = String> {
        let parts = prop_oneof![
            3 => "[ \\t\"'\\\\$%`;#&|<>*?~!{}()=a-z0-9]{0,12}",
            1 => "\\PC{0,12}",
            1 => prop::sample::select(vec!["${HOME}", "$$", "%h", "%%", "\\x41", "\\n", " ; ", "\\", "\"\"", "@", "-", "+"]).prop_map(str::to_owned),
        ];
        prop::collection::vec(parts, 0..5)
            .prop_map(|parts| parts.concat())
            .prop_filter("Unicode reserves it", |text| {
                let reserved = |c: char| {
                    u32::from(c) & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c)
                };
                !text.contains(reserved) && !text.contains(|c: char| c.is_control() && c != '\t')
            })
    }

    /// systemd's rules as documented: quotes and C escapes are taken away, then specifiers and variables are resolved.
    fn argument_by_systemd(text: &str) -> Option<String> {
        let inner = text.strip_prefix('"')?.strip_suffix('"')?;
        let mut unquoted = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => return None,
                '\\' => match chars.next()? {
                    't' => unquoted.push('\t'),
                    c @ ('\\' | '"') => unquoted.push(c),
                    _ => return None,
                },
                c => unquoted.push(c),
            }
        }
        let mut value = String::new();
        let mut chars = unquoted.chars();
        while let Some(c) = chars.next() {
            if matches!(c, '%' | '$') && chars.next() != Some(c) {
                return None;
            }
            value.push(c);
        }
        Some(value)
    }

    fn assignment_by_systemd(line: &str) -> Option<String> {
        let inner = line.strip_prefix("A=\"")?.strip_suffix("\"\n")?;
        let mut value = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => return None,
                '\\' => match chars.next()? {
                    c @ ('\\' | '"' | '$' | '`') => value.push(c),
                    c => value.extend(['\\', c]),
                },
                c => value.push(c),
            }
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn values_arrive_unchanged_by_the_documented_rules(value in value()) {
            prop_assert_eq!(argument_by_systemd(&argument(&value)), Some(value.clone()));
            prop_assert_eq!(assignment_by_systemd(&assignment("A", &value)), Some(value));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn words_arrive_unchanged_through_a_shell(values in prop::collection::vec(value(), 1..20)) {
            let words: Vec<_> = values.iter().map(|value| word(value)).collect();
            let script = format!("printf '%s\\n' {}", words.join(" "));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            prop_assert_eq!(printed, values.iter().map(|value| format!("{value}\n")).collect::<String>());
        }

        /// systemd's own parser of units, where it is installed.
        #[test]
        fn units_are_accepted_by_systemd(values in prop::collection::vec(value(), 1..20)) {
            let folder = tempfile::tempdir().unwrap();
            let unit = folder.path().join("encoded.service");
            let arguments: Vec<String> = values.iter().map(|value| argument(value)).collect();
            let command = format!("/bin/true {}", arguments.join(" "));
            fs::write(&unit, format!("[Service]\nType=oneshot\nExecStart={command}\nExecReload={command}\n")).unwrap();
            let verify = Command::new("systemd-analyze")
                .args(["verify", "--man=no", "--recursive-errors=no"])
                .arg(&unit)
                .output();
            match verify {
                Err(error) => eprintln!("skipped: systemd-analyze: {error}"),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    prop_assert!(!said.contains("encoded.service"), "{}", said);
                }
            }
        }
    }
}
