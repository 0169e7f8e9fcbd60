//! The forms of known keys and secrets in which pspd, systemd and cloud-init write them.
//!
//! A form is compared without line breaks, because writers wrap lines: MIME at 76 columns, PEM at 64 or 70, YAML with
//! indents, JSON with `\n`.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::guest::environment_value;

/// Two parts of a form lead to it, its anchors: one of them has no line break in it. Nothing shorter is looked for, because
/// a disk has it by chance; a secret's line in its environment file is found by the secret's name.
const SHORT: usize = 6;
/// The same of forms that are long enough: the longer an anchor is, the less of a disk is looked at. No lines are shorter
/// than two.
const LONG: usize = 10;
/// Longer values are looked for in pieces of at least this length, so that each is found within a part of a disk.
const PIECE: usize = 512;
/// The longest line break with its indent.
const LONGEST_BREAK: usize = 48;

/// A secret or a private key that must not be in an archive.
#[derive(Clone, Debug)]
pub(in crate::archive) struct Known {
    /// What it is, such as "the secret `TOKEN` of `web`".
    pub(in crate::archive) name: String,
    pub(in crate::archive) text: Text,
}

#[derive(Clone, Debug)]
pub(in crate::archive) enum Text {
    /// The value of a secret, in one line.
    Value(String),
    /// A private key in PEM.
    Pem(String),
}

impl Known {
    /// Whether this is a byte that is repeated.
    pub(super) fn repeats(&self, byte: u8) -> bool {
        let (Text::Value(text) | Text::Pem(text)) = &self.text;
        text.bytes().all(|other| other == byte)
    }

    fn forms(&self) -> BTreeSet<Vec<u8>> {
        match &self.text {
            Text::Value(value) => pieces(value).into_iter().flat_map(value_forms).collect(),
            Text::Pem(pem) => key_forms(pem),
        }
    }
}

/// A value in pieces, each of which is looked for.
fn pieces(value: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), value);
    while rest.len() >= 2 * PIECE {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(PIECE));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

fn value_forms(value: &str) -> BTreeSet<Vec<u8>> {
    let plain = BTreeSet::from([
        value.to_owned(),
        environment_value(value),
        environment_value(value).replace('%', "%%"),
        value.replace('$', "$$").replace('%', "%%"),
        json(value, str::to_owned),
        json(value, ascii),
        value.replace('\'', "''"),
        value.replace('\'', r"'\''"),
        systemd(value),
    ]);
    let mut forms = BTreeSet::new();
    for text in plain {
        forms.extend(base64(text.as_bytes()));
        forms.insert(text.into_bytes());
    }
    forms
}

/// The body of a key. In base64, its line ends are part of it.
fn key_forms(pem: &str) -> BTreeSet<Vec<u8>> {
    let lines = pem.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.contains([':', '-']))
        .collect();
    let mut forms = BTreeSet::from([lines.concat().into_bytes()]);
    for end in ["\n", "\r\n", r"\n"] {
        forms.extend(base64(lines.join(end).as_bytes()));
    }
    forms
}

/// A JSON string's content; `other` writes what is not escaped.
fn json(value: &str, other: fn(&str) -> String) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    other(&quoted[1..quoted.len() - 1])
}

/// As Python's `json` and YAML in double quotes write it.
fn ascii(text: &str) -> String {
    let mut ascii = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// As systemd shows it in logs and properties.
fn systemd(value: &str) -> String {
    let mut escaped = String::new();
    for byte in value.bytes() {
        match byte {
            b'"' | b'\'' | b'\\' => escaped.extend(['\\', char::from(byte)]),
            b' '..=b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("\\{byte:03o}")),
        }
    }
    escaped
}

/// What base64 of any text with `bytes` in it has of them alone: for each place in a group of three bytes.
fn base64(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    for before in 0..3 {
        let mut group = vec![0; before];
        group.extend(bytes);
        // Six bits a character: those that `bytes` determine.
        let own = (before * 8).div_ceil(6)..group.len() * 8 / 6;
        for engine in [STANDARD, URL_SAFE] {
            if let Some(own) = engine.encode(&group).as_bytes().get(own.clone()) {
                forms.insert(own.to_vec());
            }
        }
    }
    forms
}

/// Finds forms. Overlapping ones are all found.
pub(super) struct Forms {
    long: Anchors<LONG>,
    short: Anchors<SHORT>,
    /// Each with what it is a form of.
    forms: Vec<(Vec<u8>, String)>,
}

impl Forms {
    pub(super) fn of(known: &[Known]) -> Forms {
        let (mut long, mut short, mut forms) = (HashMap::new(), HashMap::new(), Vec::new());
        for one in known {
            for form in one.forms() {
                if form.len() >= 2 * LONG {
                    add(&mut long, &form, forms.len());
                } else if form.len() >= SHORT {
                    add(&mut short, &form, forms.len());
                } else {
                    continue;
                }
                forms.push((form, one.name.clone()));
            }
        }
        Forms {
            long: Anchors::of(long),
            short: Anchors::of(short),
            forms,
        }
    }

    /// Where known texts are, with their names.
    pub(super) fn find(&self, bytes: &[u8]) -> Vec<(Range<usize>, &str)> {
        let mut found = Vec::new();
        let mut consider = |at, form: usize, offset| {
            let (form, name) = &self.forms[form];
            let place = place(form, offset, bytes, at);
            found.extend(place.map(|place| (place, name.as_str())));
        };
        self.long.find(bytes, &mut consider);
        self.short.find(bytes, &mut consider);
        found
    }
}

/// The forms that have an anchor, and where in them it is.
type Places<const LENGTH: usize> = HashMap<[u8; LENGTH], Vec<(usize, usize)>>;

fn add<const LENGTH: usize>(places: &mut Places<LENGTH>, form: &[u8], number: usize) {
    let second = LENGTH.min(form.len() - LENGTH);
    for at in BTreeSet::from([0, second]) {
        let anchor = form[at..].first_chunk().expect("it is in the form");
        places.entry(*anchor).or_default().push((number, at));
    }
}

/// Anchors of one length, and what leads to them: Wu and Manber's algorithm, by which most bytes of a disk are never read.
struct Anchors<const LENGTH: usize> {
    /// How far the search may advance from the last [`BLOCK`] bytes of an anchor's place, by their [`hash`]. 0 where an
    /// anchor may be.
    advance: Box<[u8]>,
    places: Places<LENGTH>,
}

/// The bytes by which [`Anchors`] decides how far to advance.
const BLOCK: usize = 3;
const HASHES: usize = 1 << 16;

fn hash(block: &[u8]) -> usize {
    let number = block
        .iter()
        .fold(0, |number: usize, byte| number << 8 | usize::from(*byte));
    (number ^ number >> 11) % HASHES
}

impl<const LENGTH: usize> Anchors<LENGTH> {
    fn of(places: Places<LENGTH>) -> Self {
        let last = LENGTH - BLOCK;
        let mut advance = vec![last as u8 + 1; HASHES];
        for anchor in places.keys() {
            for (at, block) in anchor.windows(BLOCK).enumerate() {
                let advance = &mut advance[hash(block)];
                *advance = (*advance).min((last - at) as u8);
            }
        }
        Anchors {
            advance: advance.into(),
            places,
        }
    }

    /// Calls `consider` with the place of each anchor, the number of a form that has it, and where in the form it is.
    fn find(&self, bytes: &[u8], consider: &mut impl FnMut(usize, usize, usize)) {
        if self.places.is_empty() {
            return;
        }
        let mut at = 0;
        while let Some(anchor) = bytes.get(at..).and_then(<[u8]>::first_chunk::<LENGTH>) {
            let advance = self.advance[hash(&anchor[LENGTH - BLOCK..])];
            if advance > 0 {
                at += usize::from(advance);
                continue;
            }
            for (form, offset) in self.places.get(anchor).into_iter().flatten() {
                consider(at, *form, *offset);
            }
            at += 1;
        }
    }
}

/// Where a form is whose part from `offset` on begins at `at`.
fn place(form: &[u8], offset: usize, bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let latest = at.checked_sub(offset)?;
    // Where there is a line break before the part, the start is further away.
    let earliest = match offset {
        0 => latest,
        _ => latest.saturating_sub(LONGEST_BREAK),
    };
    let mut starts = (earliest..=latest).rev();
    starts.find_map(|start| Some(start..end(form, bytes, start)?))
}

/// The end of a form that begins at `start`.
fn end(form: &[u8], bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for (index, wanted) in form.iter().enumerate() {
        while bytes.get(at)? != wanted {
            let length = line_break(&bytes[at..]);
            if length == 0 || index == 0 {
                return None;
            }
            at += length;
        }
        at += 1;
    }
    Some(at)
}

/// The length of the line break, or the part of one, that `bytes` begin with.
fn line_break(bytes: &[u8]) -> usize {
    // In JSON inside JSON, an escape is escaped again.
    let escapes = bytes.iter().take_while(|byte| **byte == b'\\').count();
    match (escapes, &bytes[escapes..]) {
        (0, [b'=', b'\r', b'\n', ..]) => 3,
        (0, [b'=', b'\n', ..]) => 2,
        (0, [b'\n' | b'\r' | b'\t' | b' ', ..]) => 1,
        (1.., [b'n' | b'r' | b't' | b'\n' | b'\r', ..]) => escapes + 1,
        _ => 0,
    }
}
