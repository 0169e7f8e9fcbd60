//! The examples that `pspd init` writes: a topology, and the files that it names.

use std::borrow::Cow;

use rust_embed::RustEmbed;

use crate::Program;

/// A deployment to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    Demo,
    One,
    Ten,
    Postgres,
    PostgresHa,
    Reference,
    Polyglot,
}

/// The source of the services in other languages, without what is built of it.
#[derive(RustEmbed)]
#[folder = "../../examples/polyglot"]
#[exclude = "topology.yaml"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/dist/*"]
#[exclude = "*/generated/*"]
#[exclude = "*/vendor/*"]
#[exclude = "*/__pycache__/*"]
#[exclude = "*/.build/*"]
#[exclude = "web-server/web-server"]
#[exclude = "proto/Cargo.toml"]
#[exclude = "proto/*.rs"]
struct PolyglotSource;

/// A file of an example.
#[derive(Debug)]
pub struct File {
    /// Below the folder of the topology.
    pub name: String,
    pub content: Content,
}

#[derive(Debug)]
pub enum Content {
    Text(Cow<'static, [u8]>),
    Program(Program),
    /// An executable of the reference deployment, which pspd does not carry: the file with this name in the folder of
    /// those that are installed, or compiled.
    Service(&'static str),
}

/// The folder of the topology's services, in the source of pspd.
const COMPILED: &str = "target/services/";
/// The same in an example that was written.
const SERVICES: &str = "services/";
const SERVICES_IN_RUST: [&str; 3] = ["database-server", "ai-server", "web-server"];
/// The line of the demo that gets the name of its folder.
const NAME: &str = "name: demo ";

impl Example {
    pub const ALL: [Example; 7] = [
        Example::Demo,
        Example::One,
        Example::Ten,
        Example::Postgres,
        Example::PostgresHa,
        Example::Reference,
        Example::Polyglot,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Example::Demo => "demo",
            Example::One => "one",
            Example::Ten => "ten",
            Example::Postgres => "postgres",
            Example::PostgresHa => "postgres-ha",
            Example::Reference => "reference",
            Example::Polyglot => "polyglot",
        }
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Example::Demo => "one domain with a gRPC service that echoes; every key explained",
            Example::One => "one domain without a service",
            Example::Ten => "ten small domains without services",
            Example::Postgres => "PostgreSQL, and the database service that stores in it",
            Example::PostgresHa => "the same with a PostgreSQL cluster of three domains",
            Example::Reference => "the reference deployment: database, AI and web server",
            Example::Polyglot => "the same in Node.js, Python and Go; built from source",
        }
    }

    /// The example of a name.
    pub fn named(name: &str) -> Option<Example> {
        Example::ALL
            .into_iter()
            .find(|example| example.name() == name)
    }

    /// The text of its topology. `deployment` is its name in the demo; the others have names of their own.
    pub fn topology(self, deployment: Option<&str>) -> String {
        let text = match self {
            Example::Demo => include_str!("../../../examples/demo/topology.yaml"),
            Example::One => include_str!("../../../examples/one/topology.yaml"),
            Example::Ten => include_str!("../../../examples/ten/topology.yaml"),
            Example::Postgres => include_str!("../../../examples/postgres/topology.yaml"),
            Example::PostgresHa => include_str!("../../../examples/postgres-ha/topology.yaml"),
            Example::Reference => include_str!("../../../topology.yaml"),
            Example::Polyglot => include_str!("../../../examples/polyglot/topology.yaml"),
        };
        let text = text.replace(&format!("../../{COMPILED}"), SERVICES);
        let text = text.replace(COMPILED, SERVICES);
        // Of the checkout, where editors find the schema.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("# yaml-language-server"));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        match (self, deployment) {
            (Example::Demo, Some(name)) => renamed(&text, name),
            _ => text,
        }
    }

    /// The files that the topology names.
    pub fn files(self) -> Vec<File> {
        let service = |name| File {
            name: format!("{SERVICES}{name}"),
            content: Content::Service(name),
        };
        let script = |name: &str, text: &'static [u8]| File {
            name: name.into(),
            content: Content::Text(text.into()),
        };
        match self {
            Example::Demo => vec![File {
                name: "echo-server".into(),
                content: Content::Program(Program::EchoServer),
            }],
            Example::One | Example::Ten => Vec::new(),
            Example::Postgres => vec![
                service("database-server"),
                script("serve", include_bytes!("../../../examples/postgres/serve")),
            ],
            Example::PostgresHa => vec![
                service("database-server"),
                script(
                    "serve",
                    include_bytes!("../../../examples/postgres-ha/serve"),
                ),
                script(
                    "add-clients",
                    include_bytes!("../../../examples/postgres-ha/add-clients"),
                ),
            ],
            Example::Reference => SERVICES_IN_RUST.map(service).into(),
            Example::Polyglot => {
                let source = PolyglotSource::iter().filter_map(|name| {
                    let content = Content::Text(PolyglotSource::get(&name)?.data);
                    let name = name.into_owned();
                    Some(File { name, content })
                });
                source.chain(SERVICES_IN_RUST.map(service)).collect()
            }
        }
    }

    /// What builds the files that the topology names, below its folder; `None` if all of them are written.
    pub fn build(self) -> Option<&'static str> {
        (self == Example::Polyglot).then_some("build")
    }
}

fn renamed(text: &str, name: &str) -> String {
    let (before, after) = text.split_once(NAME).expect("the demo has a name");
    // The comment stays in its column.
    let comment = after.trim_start_matches(' ');
    let width = NAME.len() + after.len() - comment.len();
    format!("{before}{:width$}{comment}", format!("name: {name} "))
}
