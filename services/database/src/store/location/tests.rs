use proptest::prelude::*;
use sea_orm::sqlx::postgres::PgConnectOptions;

use super::*;

fn servers(url: &str) -> Vec<Server> {
    match url.parse().unwrap() {
        Location::Servers(_, servers) => servers,
        other => panic!("{url}: {other:?}"),
    }
}

fn fault(url: &str) -> String {
    url.parse::<Location>().unwrap_err()
}

#[test]
fn one_server_and_files_are_as_they_are_written() {
    for url in [
        "postgres://db/database",
        "postgresql://user:a,b@db:5433/database?sslmode=verify-full&target_session_attrs=any",
        "postgres:///database?host=/run/postgresql",
        "postgres://user@[::1]:5433/database",
    ] {
        let Ok(Location::Postgres(read)) = url.parse() else {
            panic!("{url}");
        };
        assert_eq!(read.text(), url);
    }
    let file = "/var/lib/a,b.sqlite";
    assert_eq!(file.parse(), Ok(Location::File(file.into())));
}

#[test]
fn each_server_has_a_url_of_its_own() {
    let read = servers(
        "postgres://us%2Cer:p,w@DB-1,db-2:5433,[2001:DB8:0::1],10.0.0.1:1/database\
         ?sslmode=verify-full&target_session_attrs=read-write&sslrootcert=/ca.pem",
    );
    let read: Vec<_> = read
        .iter()
        .map(|server| (&*server.name, server.url.text()))
        .collect();
    let url = |host| {
        format!("postgres://us%2Cer:p,w@{host}/database?sslmode=verify-full&sslrootcert=/ca.pem")
    };
    let hosts = ["db-1:5432", "db-2:5433", "[2001:db8::1]:5432", "10.0.0.1:1"];
    let urls = hosts.map(url);
    let expected: Vec<_> = hosts
        .into_iter()
        .zip(urls.iter().map(|url| &**url))
        .collect();
    assert_eq!(read, expected);

    for url in [
        "postgres://a,b",
        "postgres://a,b?target_session_attrs=primary",
    ] {
        let urls: Vec<_> = servers(url)
            .into_iter()
            .map(|server| server.url.0)
            .collect();
        assert_eq!(urls, ["postgres://a:5432", "postgres://b:5432"], "{url}");
    }
}

#[test]
fn faults_say_what_is_wrong_where_and_what_to_do() {
    const EMPTY: &str = "name a host there, or remove the comma";
    const PORTS: &str =
        "correct it, write an IPv6 address in brackets, or remove the `:` to use port 5432";
    const NAMES: &str = "use a host name, an IPv4 address, or an IPv6 address in brackets, as in \
                         `[2001:db8::1]:5432`";
    let empty = |place| format!("has an empty host, {place}: {EMPTY}");
    let port =
        |place| format!("has a port that is not a number from 1 to 65535 for {place}: {PORTS}");
    let name = |place| format!("does not have a valid name as {place}: {NAMES}");
    for (hosts, expected) in [
        ("a,", empty("host 2 of 2")),
        (",a", empty("host 1 of 2")),
        ("a,,b", empty("host 2 of 3")),
        ("a,:5433", empty("host 2 of 2")),
        ("a,b:0", port("host 2 of 2, `b`")),
        ("a:,b", port("host 1 of 2, `a`")),
        ("a,b:65536", port("host 2 of 2, `b`")),
        ("a,b:+1", port("host 2 of 2, `b`")),
        ("a,[::1]:x", port("host 2 of 2, `[::1]`")),
        ("a,fe80::1", port("host 2 of 2, `fe80`")),
        ("a,b c", name("host 2 of 2")),
        ("a,[::g]", name("host 2 of 2")),
        ("a,[::1]5432", name("host 2 of 2")),
        ("a,[::1", name("host 2 of 2")),
        (
            "a,b,A:5432",
            "names the server `a:5432` twice, as host 1 and as host 3 of 3: remove one".to_owned(),
        ),
        (
            "[::1]:1,[0::1]:1",
            "names the server `[::1]:1` twice, as host 1 and as host 2 of 2: remove one".to_owned(),
        ),
    ] {
        let url = format!("postgres://user:password@{hosts}/database");
        assert_eq!(fault(&url), expected, "{hosts}");
    }
    for (parameters, expected) in [
        (
            "target_session_attrs=any",
            "has a value of the parameter `target_session_attrs` that is not supported: use \
             `read-write` or `primary`, or remove it, because the server that can be written to is \
             always used",
        ),
        (
            "sslmode=require&port=1,2",
            "has the parameter `port` beside several hosts: name each host, and its port, before \
             the database",
        ),
    ] {
        let url = format!("postgres://user:password@a,b/database?{parameters}");
        assert_eq!(fault(&url), expected);
    }
    assert_eq!(
        fault("postgres:///database?host=a,b"),
        "has several values in the parameter `host`: name several servers before the database, as \
         in `postgres://user@db-1,db-2:5433/database`"
    );
    assert!(fault("postgres://user:a,b/password@db/database").starts_with("has an `@` after"));
}

#[test]
fn a_url_is_shown_without_its_password() {
    for (url, expected) in [
        (
            "postgres://user:secret@a/b?sslmode=require",
            "postgres://a/b",
        ),
        ("postgres://user:secret@a,b:5433/c", "postgres://a,b:5433/c"),
        ("postgresql://a/b?password=secret", "postgresql://a/b"),
        ("postgres://user:sec/ret@a/b", "postgres://..."),
        ("postgres://user:x@sec?ret@a/b", "postgres://..."),
    ] {
        let location: Location = url.parse().unwrap();
        assert_eq!(location.to_string(), expected);
    }
}

proptest! {
    #[test]
    fn nothing_shows_a_password(before in "[a-c,:/?#@%\\[\\] ]{0,6}", after in "[a-c,:/?#@%\\[\\] ]{0,6}",
                                hosts in "[a-c,:1\\[\\]]{0,12}", rest in "(/[a-c]{1,3})?(\\?[a-c=&]{0,9})?") {
        let url = format!("postgres://user:{before}SECRET{after}@{hosts}{rest}");
        match url.parse::<Location>() {
            Ok(location) => {
                prop_assert!(!location.to_string().contains("SECRET"), "{location}");
                prop_assert!(!format!("{location:?}").contains("SECRET"), "{location:?}");
            }
            Err(fault) => prop_assert!(!fault.contains("SECRET"), "{fault}"),
        }
    }

    #[test]
    fn the_driver_reads_each_server_as_it_is_meant(
        hosts in proptest::collection::btree_map("[a-z][a-z0-9-]{0,8}(\\.[a-z]{1,3})?", any::<Option<u16>>(), 2..6),
        password in "[a-zA-Z0-9,:!*~]{1,12}",
        database in "[a-z]{1,8}",
    ) {
        let ports = hosts.iter().map(|(host, port)| (host, port.map(|port| port.max(1))));
        let ports: Vec<_> = ports.collect();
        let texts: Vec<String> = ports
            .iter()
            .map(|(host, port)| port.map_or((*host).clone(), |port| format!("{host}:{port}")))
            .collect();
        let url = format!("postgres://user:{password}@{}/{database}", texts.join(","));
        let read = servers(&url);
        prop_assert_eq!(read.len(), ports.len());
        for (server, (host, port)) in read.iter().zip(ports) {
            let options: PgConnectOptions = server.url.text().parse().unwrap();
            prop_assert_eq!(options.get_host(), host);
            prop_assert_eq!(options.get_port(), port.unwrap_or(PORT));
            prop_assert_eq!(options.get_username(), "user");
            prop_assert_eq!(options.get_database(), Some(&*database));
        }
    }
}
