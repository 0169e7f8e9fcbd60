//! Text indexes of PostgreSQL while services are killed, and beside services of the version before.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::postgres::Cluster;
use crate::server::{Server, command};
use crate::text;

const LIMIT: Duration = Duration::from_secs(60);

/// In a store of the version before, by a service that is killed meanwhile; then services of that version go on.
#[tokio::test(flavor = "multi_thread")]
async fn filling_a_text_index_continues_after_an_interruption() {
    let cluster = Cluster::start();
    let indexes = [("DATABASE_INDEXES", text::INDEXES)];
    Server::start(&cluster.url(), &[]).stop();
    cluster.ask(
        "DROP FUNCTION forget_words CASCADE;
         ALTER TABLE documents DROP words, DROP words_by;
         UPDATE schema_version SET version = 1;
         INSERT INTO documents (id, collection, data)
         SELECT lpad(n::text, 12, '0'), 'random',
             json_build_object('n', n, 'text', 'word ' || n)::text
         FROM generate_series(1, 3000) n",
    );
    Server::start(&cluster.url(), &[]).stop();
    let until = async |question: &str, expected: &str| {
        let began = Instant::now();
        while cluster.ask(question) != expected {
            assert!(began.elapsed() < LIMIT, "not {expected}: {question}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Who holds a document holds up its service there.
    let hold = "BEGIN; SELECT FROM documents WHERE id = '000000002500' FOR UPDATE; \
                SELECT pg_sleep(600)";
    let mut holder = cluster.psql(hold).stdout(Stdio::null()).spawn().unwrap();
    let held = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until(&format!("SELECT count(*) {held}"), "1").await;
    let mut filling = command(&cluster.url(), &indexes);
    let mut filling = filling.stdout(Stdio::null()).spawn().unwrap();
    let filled = "SELECT count(words_by) FROM documents";
    until(filled, "2048").await;
    filling.kill().unwrap();
    filling.wait().unwrap();
    cluster.ask(&format!("SELECT pg_terminate_backend(pid) {held}"));
    holder.wait().unwrap();
    assert_eq!(cluster.ask(filled), "2048");

    let server = Server::start(&cluster.url(), &indexes);
    let client = server.client().await;
    assert_eq!(cluster.ask(filled), "3000");
    cluster.ask(
        r#"UPDATE documents SET data = '{"n": 7, "text": "changed"}' WHERE id = '000000000007';
           INSERT INTO documents (id, collection, data)
           VALUES ('000000003001', 'random', '{"n": 3001, "text": "added"}')"#,
    );
    assert_eq!(cluster.ask(filled), "2999");
    let search = r#"{"$text": {"$search": "7 8 2900 changed added"}}"#;
    let expected = [7, 8, 2900, 3001];
    assert_eq!(client.numbers("random", search).await, expected);
    let old = r#"{"$text": {"$search": "7"}}"#;
    assert!(client.numbers("random", old).await.is_empty());
    server.stop();
    let server = Server::start(&cluster.url(), &indexes);
    assert_eq!(cluster.ask(filled), "3001");
    let found = server.client().await.numbers("random", search).await;
    assert_eq!(found, expected);
}
