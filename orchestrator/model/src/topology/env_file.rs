//! Reads files of environment variables: lines `NAME=VALUE`, as dotenv and Docker Compose read them.

/// A variable of a file, and its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub line: usize,
    pub name: String,
    pub value: String,
}

/// Returns the variables in their order. Empty lines and comments are skipped; nothing is expanded. The error begins with
/// the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Variable>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim).zip(1..);
    let lines = lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#'));
    lines
        .map(|(text, line)| {
            let (name, text) = assignment(text).map_err(|error| format!("line {line}: {error}"))?;
            let value = value(text).map_err(|error| format!("line {line}: {error}"))?;
            Ok(Variable {
                line,
                name: name.to_owned(),
                value,
            })
        })
        .collect()
}

fn assignment(text: &str) -> Result<(&str, &str), String> {
    let text = text.strip_prefix("export ").unwrap_or(text);
    let (name, value) = text
        .split_once('=')
        .ok_or("it has no `=`; write it like `NAME=VALUE`")?;
    Ok((name.trim(), value.trim()))
}

/// A value without its quotes, or up to a comment.
fn value(text: &str) -> Result<String, String> {
    let Some(quote) = text.chars().next().filter(|c| "'\"".contains(*c)) else {
        let value = match text.starts_with('#') {
            true => "",
            false => text.split(" #").next().unwrap_or_default(),
        };
        return Ok(value.trim_end().to_owned());
    };
    let mut value = String::new();
    let mut rest = text[1..].chars();
    loop {
        match rest.next() {
            None => {
                return Err(format!(
                    "its value has no closing {quote}; a value has one line"
                ));
            }
            Some(c) if c == quote => break,
            Some('\\') if quote == '"' => match rest.next() {
                Some(c @ ('"' | '\\' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => value.push('\\'),
            },
            Some(c) => value.push(c),
        }
    }
    let rest = rest.as_str().trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(value);
    }
    Err(format!("there is text after the closing {quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_in_other_tools() {
        let text = "\u{feff}# of the shop\n\nA=1\r\n  B = two words  \nexport C='a # b'\nD=\"x \\\"y\\\" \\n $z\" # why\nE=\n\
                    F=a#b # c\nG=# c\nH=a=b\n";
        let read: Vec<_> = parse(text).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|one| (one.line, one.name.as_str(), one.value.as_str()))
            .collect();
        let expected = [
            (3, "A", "1"),
            (4, "B", "two words"),
            (5, "C", "a # b"),
            (6, "D", "x \"y\" \\n $z"),
            (7, "E", ""),
            (8, "F", "a#b"),
            (9, "G", ""),
            (10, "H", "a=b"),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn an_invalid_variable_is_named_with_its_line() {
        for (text, error) in [
            ("A=1\nB\n", "line 2: it has no `=`"),
            ("A='1\n2'\n", "line 1: its value has no closing '"),
            ("A=\"1\" 2\n", "line 1: there is text after the closing \""),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.starts_with(error), "{found}");
        }
    }
}
