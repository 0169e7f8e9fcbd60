use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn secret(value: &str) -> Known {
    Known {
        name: "a secret".into(),
        text: Text::Value(value.into()),
    }
}

fn key(pem: &str) -> Known {
    Known {
        name: "a key".into(),
        text: Text::Pem(pem.into()),
    }
}

fn pem(body: &str) -> String {
    format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n")
}

fn blanks(known: &[Known]) -> Blanks {
    Blanks::of(known, &["WORD".to_owned()], &[]).unwrap()
}

fn blanked(blanks: &Blanks, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    blanks.apply(&mut bytes);
    bytes
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn keys_and_values_are_blanked_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.pem");
    let spared = pem(&"OWN+".repeat(20));
    fs::write(&own, &spared).unwrap();
    let blanks = Blanks::of(&[secret("to.ken"), secret("a")], &[], &[&own]).unwrap();
    let key = pem(&"a/b=".repeat(20));
    // Not UTF-8, as a disk is; a program's constant; a value that differs where `.` is.
    let around = |middle: &str, value: &str| {
        let mut bytes = vec![0xff, 0xc3];
        bytes.extend(
            format!(
                "{spared}-----BEGIN PRIVATE KEY-----\0-----BEGIN PRIVATE KEY-----\nnot a key but words that are as long as one{middle}{value}to1ken"
            )
            .bytes(),
        );
        bytes
    };
    let mut bytes = around(&key, "to.ken");
    blanks.apply(&mut bytes);
    let blank = "x".repeat(key.trim_end().len()) + "\n";
    assert_eq!(bytes, around(&blank, "xxxxxx"));
}

#[test]
fn a_secret_that_begins_like_another_or_overlaps_it_leaves_no_tail() {
    let known = [
        secret("password-1"),
        secret("password-1-and-more"),
        secret("more-than-that"),
    ];
    let text = b"(password-1) (password-1-and-more) (password-1-and-more-than-that)";
    let wanted = "(xxxxxxxxxx) (xxxxxxxxxxxxxxxxxxx) (xxxxxxxxxxxxxxxxxxxxxxxxxxxxx)";
    assert_eq!(
        String::from_utf8(blanked(&blanks(&known), text)).unwrap(),
        wanted
    );
}

#[test]
fn blanks_are_not_counted_as_secrets() {
    let known = [secret("xxxxxxxx"), secret("--------")];
    assert_eq!(blanked(&blanks(&known), b"=xxxxxxxx="), b"=________=");
}

#[test]
fn a_secret_that_was_replaced_is_found_by_its_line() {
    let bytes = b"A=\"b\"\nWORD=\"o\\\"ld\"\nSWORD=\"b\"\nWORD=\"$1\"\n";
    let wanted = b"A=\"b\"\nWORD=\"xxxxx\"\nSWORD=\"b\"\nWORD=\"$1\"\n";
    assert_eq!(blanked(&blanks(&[]), bytes), wanted);
}

#[test]
fn a_secret_of_an_earlier_release_is_found_without_its_name() {
    let values = [
        ("OLD", "hunter2"),
        ("WORD", "$`\"\\"),
        ("other.name", "a #b"),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let text = crate::guest::secrets(&values.into());
    let wanted = format!(
        "{SECRET_BELOW}\nOLD=\"xxxxxxx\"\n{SECRET_BELOW}\nWORD=\"xxxxxxxx\"\n{SECRET_BELOW}\nother.name=\"xxxx\"\n"
    );
    let found = blanked(&Blanks::of(&[], &[], &[]).unwrap(), text.as_bytes());
    assert_eq!(String::from_utf8(found).unwrap(), wanted);
}

/// Some keys are not known: those that were replaced, and those of the guest's own.
#[test]
fn a_key_is_found_in_what_cloud_init_writes_and_with_headers() {
    let lines = ["k".repeat(64), "e/+y".repeat(16), "end==".into()];
    let head = "-----BEGIN RSA PRIVATE KEY-----";
    let end = "-----END RSA PRIVATE KEY-----";
    let written = |by: &str| format!("{head}{by}{}{by}{end}", lines.join(by));
    for text in [
        written("\n"),
        written("\r\n"),
        written("\\n"),
        written("\\\\n"),
        written("\\u000a"),
        written("\n\n      "),
        written("\\n\\\n    "),
        format!(
            "{head}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n{}\n{end}",
            lines.join("\n")
        ),
        // Its end is elsewhere.
        format!("{head}\n{}\n{}", lines[0], lines[1]),
        format!(
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n{}\n-----END PGP PRIVATE KEY BLOCK-----",
            lines.join("\n")
        ),
    ] {
        let bytes = blanked(&blanks(&[]), format!("{{\"{text}\"}}").as_bytes());
        let wanted = format!("{{\"{}\"}}", "x".repeat(text.len()));
        assert_eq!(String::from_utf8(bytes).unwrap(), wanted, "{text}");
    }
}

#[test]
fn a_file_that_has_a_secret_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "password: p\\\"ssword").unwrap();
    let refused = Blanks::of(&[secret("p\"ssword")], &[], &[&file]);
    let error = refused.map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("contains a secret") && error.contains("--with-secrets"),
        "{error}"
    );
}

/// Python's `json.dumps`, as in cloud-init's instance data.
fn python_json(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out
}

/// systemd's and a shell's double quotes.
fn in_double_quotes(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if "\\\"$`".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn wrapped(text: &str, columns: usize, by: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let lines = characters.chunks(columns).map(String::from_iter);
    lines.collect::<Vec<_>>().join(by)
}

fn value() -> impl Strategy<Value = String> {
    let special = proptest::string::string_regex(r#"["\\$`'%{}/a-c ]{6,40}"#).unwrap();
    let unicode = proptest::string::string_regex(r"[^\p{Cc}]{6,30}").unwrap();
    let long = proptest::string::string_regex("[!-~]{200,3000}").unwrap();
    prop_oneof![4 => special, 4 => unicode, 1 => long]
}

proptest! {
    // PROPTEST_CASES makes it longer.
    #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").map_or(24, |cases| cases.parse().unwrap())))]

    #[test]
    fn no_encoding_of_a_secret_is_left(
        values in proptest::collection::vec(value(), 1..4),
        before in "[A-Z]{0,4}",
        columns in 20..80usize,
    ) {
        let known: Vec<Known> = values.iter().map(|value| secret(value)).collect();
        let blanks = blanks(&known);
        for value in &values {
            let file = format!("{before}WORD=\"{}\"\nOTHER=\"x\"\n", in_double_quotes(value));
            let json = format!("{before}{{\"key\": \"{}\"}}", python_json(value));
            for text in [
                format!("{before}{value}\n"),
                file.clone(),
                json.clone(),
                STANDARD.encode(&file),
                wrapped(&STANDARD.encode(&file), 76, "\n"),
                wrapped(&STANDARD.encode(&file), columns, "\\n"),
                STANDARD.encode(&json),
            ] {
                let blanked = blanked(&blanks, text.as_bytes());
                prop_assert_eq!(blanked.len(), text.len());
                let decoded: Vec<u8> = blanked.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
                let decoded = STANDARD.decode(decoded).unwrap_or_default();
                for form in [value.clone(), in_double_quotes(value), python_json(value)] {
                    prop_assert!(!has(&blanked, form.as_bytes()), "{:?} in {:?}", form, text);
                    prop_assert!(!has(&decoded, form.as_bytes()), "{:?} in base64 {:?}", form, text);
                }
            }
        }
    }

    #[test]
    fn no_line_of_a_known_key_is_left_wherever_it_is_wrapped(
        body in proptest::collection::vec(any::<u8>(), 48..400),
        before in "[A-Z]{0,4}",
        columns in 24..80usize,
    ) {
        let lines = wrapped(&STANDARD.encode(&body), 64, "\n");
        let blanks = blanks(&[key(&pem(&lines))]);
        // Without its first line, as what is found by its shape has one.
        let json = format!("{before}{}", python_json(&format!("{lines}\n-----END")));
        let text = format!("{before}\n{lines}\n-----END");
        for text in [
            text.clone(),
            json.clone(),
            wrapped(&lines.replace('\n', ""), columns, "\n\n    "),
            wrapped(&STANDARD.encode(&text), 76, "\n"),
            wrapped(&STANDARD.encode(&json), columns, "\n"),
        ] {
            let blanked = blanked(&blanks, text.as_bytes());
            let left = String::from_utf8(blanked).unwrap();
            let left = left.split('x').map(str::len).max();
            prop_assert!(left < Some(24), "{left:?} of {text:?}");
        }
    }
}
