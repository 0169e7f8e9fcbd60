//! Where a store is: a value, read from the configuration. It connects to nothing, and only creates SQLite's file.
//!
//! The URL of several PostgreSQL servers is libpq's: `postgres://user:password@db-1,db-2:5433/database?parameters`.
//! Source: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS>.

use std::fmt;
use std::fs::File;
use std::net::Ipv6Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;

/// Of a new file, as SQLite makes them.
const MODE: u32 = 0o644;
/// PostgreSQL's port.
const PORT: u16 = 5432;
/// The parameter that says which server is wanted, and its values that ask for the one that can be written to.
const WANTED: &str = "target_session_attrs";
const WRITABLE: [&str; 2] = ["read-write", "primary"];
/// Parameters that would name a server beside those before the database.
const ADDRESSES: [&str; 3] = ["host", "hostaddr", "port"];

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// SQLite's file; it is created if it does not exist.
    File(PathBuf),
    /// One PostgreSQL server.
    Postgres(Url),
    /// Several PostgreSQL servers, of which the first that can be written to is used.
    Servers(Url, Vec<Server>),
}

/// A `postgres://` URL; it is shown without what may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

/// One of several servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its host and its port.
    pub(super) name: String,
    /// The store on this server.
    pub(super) url: Url,
}

impl FromStr for Location {
    /// What follows the name of the setting: what is wrong, where, and what to do. It never quotes a password.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Ok(Self::File(text.into()));
        }
        let url = Url(text.to_owned());
        Ok(match url.servers()? {
            Some(servers) => Self::Servers(url, servers),
            None => Self::Postgres(url),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) | Self::Servers(url, _) => url.fmt(f),
        }
    }
}

impl Location {
    /// Creates the file if it does not exist. No connection does: a file that is removed while it is in use would be
    /// replaced by an empty one.
    pub(super) fn create(&self) -> std::io::Result<()> {
        match self {
            // To close a file that is open twice in a process would release SQLite's locks on it.
            Self::File(path) if !path.try_exists()? => {
                let mut new = File::options();
                new.append(true).create(true).mode(MODE).open(path)?;
                Ok(())
            }
            Self::File(_) | Self::Postgres(_) | Self::Servers(..) => Ok(()),
        }
    }
}

/// The parts of a URL.
struct Parts<'a> {
    scheme: &'a str,
    /// The user, and the password if it has one.
    user: Option<&'a str>,
    hosts: &'a str,
    /// What follows the hosts: `/database`.
    path: &'a str,
    /// What follows the first `?`.
    parameters: &'a str,
}

impl Url {
    /// The whole URL, with its password.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> Parts<'_> {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        Parts {
            scheme,
            user,
            hosts,
            path,
            parameters,
        }
    }

    /// The servers, if there are several.
    fn servers(&self) -> Result<Option<Vec<Server>>, String> {
        let parts = self.parts();
        if !parts.hosts.contains(',') {
            return parts.check_one().map(|()| None);
        }
        // What looks like hosts may be a part of the password: nothing is quoted.
        if parts.has_late_at() {
            return Err(
                "has an `@` after its hosts: write `/`, `?`, `#` and `@` in the user name and the \
                 password as `%2F`, `%3F`, `%23` and `%40`, and `@` elsewhere as `%40`"
                    .to_owned(),
            );
        }
        let parameters = parts.own_parameters()?;
        let hosts: Vec<&str> = parts.hosts.split(',').collect();
        let mut servers: Vec<Server> = Vec::with_capacity(hosts.len());
        for (index, host) in hosts.iter().enumerate() {
            let place = format!("host {} of {}", index + 1, hosts.len());
            let name = name(host, &place)?;
            if let Some(first) = servers.iter().position(|server| server.name == name) {
                let first = first + 1;
                return Err(format!(
                    "names the server `{name}` twice, as host {first} and as {place}: remove one"
                ));
            }
            let url = Self(parts.with(&name, &parameters));
            servers.push(Server { name, url });
        }
        Ok(Some(servers))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        let Parts { scheme, hosts, .. } = parts;
        // A password with `/` or `?` would end the part before the hosts too early.
        match parts.has_late_at() {
            true => write!(f, "{scheme}://..."),
            false => write!(f, "{scheme}://{hosts}{}", parts.path),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl Parts<'_> {
    /// Whether an `@` follows the part that ends with the hosts.
    fn has_late_at(&self) -> bool {
        self.path.contains('@') || self.parameters.contains('@')
    }

    /// Refuses several hosts in a parameter, where libpq reads them, and the driver does not.
    fn check_one(&self) -> Result<(), String> {
        let several = |(key, value): (&str, &str)| {
            ADDRESSES.contains(&key) && (value.contains(',') || value.contains("%2C"))
        };
        match pairs(self.parameters).find(|pair| several(*pair)) {
            Some((key, _)) => Err(format!(
                "has several values in the parameter `{key}`: name several servers before the \
                 database, as in `postgres://user@db-1,db-2:5433/database`"
            )),
            None => Ok(()),
        }
    }

    /// The parameters that each of several servers has.
    fn own_parameters(&self) -> Result<String, String> {
        let mut own = Vec::new();
        for (key, value) in pairs(self.parameters) {
            if ADDRESSES.contains(&key) {
                return Err(format!(
                    "has the parameter `{key}` beside several hosts: name each host, and its port, \
                     before the database"
                ));
            }
            match key {
                WANTED if WRITABLE.contains(&value) => {}
                WANTED => {
                    return Err(format!(
                        "has a value of the parameter `{WANTED}` that is not supported: use \
                         `read-write` or `primary`, or remove it, because the server that can be \
                         written to is always used"
                    ));
                }
                _ => own.push(format!("{key}={value}")),
            }
        }
        Ok(own.join("&"))
    }

    /// The URL of one of the servers.
    fn with(&self, host: &str, parameters: &str) -> String {
        let Self { scheme, path, .. } = self;
        let user = self.user.map_or(String::new(), |user| format!("{user}@"));
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{scheme}://{user}{host}{path}{mark}{parameters}")
    }
}

/// The parameters' names and values, as they are written.
fn pairs(parameters: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = parameters.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A server's host and port in the one form in which equal ones are equal. Only what is a valid host is quoted: anything
/// else may be a part of a password.
fn name(text: &str, place: &str) -> Result<String, String> {
    let (host, port) = match text.rfind(']') {
        Some(end) => (&text[..=end], text[end + 1..].strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(format!(
            "has an empty host, {place}: name a host there, or remove the comma"
        ));
    }
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match address.map(Ipv6Addr::from_str) {
        Some(Ok(address)) => Some(format!("[{address}]")),
        None if is_name(host) => Some(host.to_ascii_lowercase()),
        Some(Err(_)) | None => None,
    };
    let rest = text.rfind(']').map_or("", |end| &text[end + 1..]);
    let (Some(host), true) = (host, rest.is_empty() || rest.starts_with(':')) else {
        return Err(format!(
            "does not have a valid name as {place}: use a host name, an IPv4 address, or an IPv6 \
             address in brackets, as in `[2001:db8::1]:5432`"
        ));
    };
    let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => PORT,
        Some(port) => match Some(port).filter(digits).map(u16::from_str) {
            Some(Ok(port)) if port > 0 => port,
            _ => {
                return Err(format!(
                    "has a port that is not a number from 1 to 65535 for {place}, `{host}`: correct \
                     it, write an IPv6 address in brackets, or remove the `:` to use port {PORT}"
                ));
            }
        },
    };
    Ok(format!("{host}:{port}"))
}

/// Whether it may be the name of a host, or the percent-encoded path of a socket's folder.
fn is_name(host: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._%".contains(&byte);
    host.bytes().all(valid)
}

#[cfg(test)]
mod tests;
