//! Texts of JSON objects as people and programs write them, which no parser and printer would return as they are.

/// Numbers that change in a `f64`, or in their spelling.
const NUMBERS: [&str; 12] = [
    "0",
    "-0",
    "-0.0",
    "1.10",
    "1e2",
    "1E+02",
    "12345678901234567",
    "-9223372036854775809",
    "18446744073709551616",
    "12345678901234567890123",
    "0.1000000000000000055511151231257827",
    "1e-300",
];
const STRINGS: [&str; 9] = [
    r#""""#,
    r#""a""#,
    r#""\u0061\/\"\\""#,
    r#""\ud83d\ude00""#,
    r#""\b\f\n\r\t""#,
    "\"\u{e9} \u{1f600} \u{2028}\"",
    r#""<b>&amp;</b>""#,
    r#""__proto__""#,
    r#""10""#,
];
const SPACES: [&str; 7] = ["", "", "", " ", "\n", "\r\n\t", "   "];
const DEPTH: usize = 4;

/// One object; `random(n)` returns a number below `n`.
pub fn object_text(random: &mut dyn FnMut(usize) -> usize) -> String {
    let mut text = String::new();
    space(&mut text, random);
    object(&mut text, random, DEPTH);
    space(&mut text, random);
    text
}

fn space(text: &mut String, random: &mut dyn FnMut(usize) -> usize) {
    text.push_str(SPACES[random(SPACES.len())]);
}

fn object(text: &mut String, random: &mut dyn FnMut(usize) -> usize, depth: usize) {
    list(text, random, '{', '}', |text, random| {
        text.push_str(STRINGS[random(STRINGS.len())]);
        space(text, random);
        text.push(':');
        space(text, random);
        value(text, random, depth);
    });
}

fn list(
    text: &mut String,
    random: &mut dyn FnMut(usize) -> usize,
    open: char,
    close: char,
    mut element: impl FnMut(&mut String, &mut dyn FnMut(usize) -> usize),
) {
    text.push(open);
    space(text, random);
    for index in 0..random(5) {
        if index > 0 {
            text.push(',');
            space(text, random);
        }
        element(text, random);
        space(text, random);
    }
    text.push(close);
}

fn value(text: &mut String, random: &mut dyn FnMut(usize) -> usize, depth: usize) {
    match random(if depth == 0 { 4 } else { 6 }) {
        0 | 1 => text.push_str(NUMBERS[random(NUMBERS.len())]),
        2 => text.push_str(STRINGS[random(STRINGS.len())]),
        3 => text.push_str(["true", "false", "null"][random(3)]),
        4 => object(text, random, depth - 1),
        _ => list(text, random, '[', ']', |text, random| {
            value(text, random, depth - 1);
        }),
    }
}
