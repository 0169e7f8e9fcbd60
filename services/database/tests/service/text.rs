//! Text search, on every store.

use futures::future::join_all;
use serde_json::{Value as Json, json};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::server::{Client, Server, place};

/// The text indexes of the collections `articles` and `random`.
pub(crate) const INDEXES: &str = "articles:title:text,parts.body:text;random:text:text";

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[("DATABASE_INDEXES", INDEXES)]);
    story(&server.client().await).await;
}

fn documents() -> Vec<Json> {
    vec![
        json!({"n": 0, "title": "Red wine and cheese"}),
        json!({"n": 1, "title": "White WINE", "parts": [{"body": "from red grapes"}]}),
        json!({"n": 2, "title": "Café au lait"}),
        json!({"n": 3, "title": ["Green tea", "red bush tea"]}),
        json!({"n": 4, "title": "東京都の天気"}),
        json!({"n": 5, "title": "京都 東"}),
        json!({"n": 6, "title": 7, "other": "wine"}),
        json!({"n": 7, "title": {"wine": "tea"}, "parts": {"body": "it's 50% off"}}),
    ]
}

const SEARCHES: &[(&str, &[i64])] = &[
    ("wine", &[0, 1]),
    ("WINE tea", &[0, 1, 3]),
    ("\"red wine\"", &[0]),
    ("\"red wine\" tea", &[0]),
    ("\"wine\" \"red\"", &[0, 1]),
    ("wine -cheese", &[1]),
    ("wine -\"red wine\"", &[1]),
    ("\"tea red\"", &[]),
    ("bush-fire", &[3]),
    ("cafe", &[2]),
    ("CAFE\u{301}", &[2]),
    ("東京", &[4]),
    ("京都", &[4, 5]),
    ("-wine", &[]),
    ("", &[]),
    ("'\" OR * NEAR(a) title: a | b & !c", &[]),
    ("it's", &[7]),
    ("50", &[7]),
    ("7", &[]),
];

pub(crate) async fn story(client: &Client) {
    let mut ids = Vec::new();
    for document in documents() {
        ids.push(client.create("articles", &document).await.unwrap());
    }
    for (search, expected) in SEARCHES {
        let query = json!({"$text": {"$search": search}}).to_string();
        assert_eq!(
            client.numbers("articles", &query).await,
            *expected,
            "{query}"
        );
    }
    beside_others(client).await;
    refused(client).await;

    let tea = json!({"n": 0, "title": "tea"});
    client.update("articles", &ids[0], &tea).await.unwrap();
    client.delete("articles", &ids[3]).await.unwrap();
    for (search, expected) in [("wine", vec![1]), ("tea", vec![0]), ("cheese bush", vec![])] {
        let query = json!({"$text": {"$search": search}}).to_string();
        assert_eq!(
            client.numbers("articles", &query).await,
            expected,
            "{query}"
        );
    }
}

async fn beside_others(client: &Client) {
    let wine = json!({"$text": {"$search": "wine"}});
    let cases = [
        (json!({"$and": [&wine, {"n": {"$gt": 0}}]}), vec![1]),
        (json!({"$or": [&wine, {"n": 3}]}), vec![0, 1, 3]),
        (json!({"$nor": [&wine, {"n": 3}]}), vec![2, 4, 5, 6, 7]),
        (json!({"$not": &wine, "n": {"$lt": 4}}), vec![2, 3]),
        (
            json!({"$text": {"$search": "wine tea"}, "$sort": {"n": -1}, "$limit": 2}),
            vec![3, 1],
        ),
        (
            json!({"$text": {"$search": "wine tea", "$language": "none"}, "$skip": 1}),
            vec![1, 3],
        ),
    ];
    for (query, expected) in cases {
        let found = client.numbers("articles", &query.to_string()).await;
        assert_eq!(found, expected, "{query}");
    }
    let summaries = [
        (json!({"$count": true}), json!({"count": 2})),
        (
            json!({"$group": {"_id": null, "most": {"$max": "$n"}}}),
            json!({"_id": null, "most": 1}),
        ),
    ];
    for (mut query, expected) in summaries {
        query["$text"] = wine["$text"].clone();
        let found = client.query("articles", &query.to_string()).await.unwrap();
        assert_eq!(found, [(String::new(), expected)], "{query}");
    }
}

async fn refused(client: &Client) {
    let many: String = (0..257).map(|n| format!("{n} ")).collect();
    let text = |search: Json| json!({"$text": {"$search": search}});
    let cases = [
        ("none", text(json!("a")), "TEXT_INDEX_MISSING", "$text"),
        (
            "none",
            json!({"$or": [{"n": 1}, text(json!("a"))]}),
            "TEXT_INDEX_MISSING",
            "$text",
        ),
        (
            "articles",
            json!({"$text": "a"}),
            "QUERY_OPERAND_INVALID",
            "$text",
        ),
        ("articles", text(json!(1)), "QUERY_OPERAND_INVALID", "$text"),
        (
            "articles",
            text(json!(many)),
            "QUERY_OPERAND_INVALID",
            "$search",
        ),
        (
            "articles",
            json!({"title": text(json!("a"))}),
            "QUERY_OPERAND_INVALID",
            "$text",
        ),
        (
            "articles",
            json!({"parts": {"$elemMatch": {"$or": [text(json!("a"))]}}}),
            "QUERY_OPERAND_INVALID",
            "$elemMatch",
        ),
        (
            "articles",
            json!({"$text": {"$search": "a", "$near": 1}}),
            "QUERY_OPERATOR_UNKNOWN",
            "$near",
        ),
    ];
    for (collection, query, reason, operator) in cases {
        let status = client.query(collection, &query.to_string()).await;
        let status = status.unwrap_err();
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{query}");
        assert_eq!(info.reason, reason, "{query}");
        assert_eq!(info.metadata["operator"], operator, "{query}");
    }
}

/// Texts, and the words in them.
const TEXTS: &[(&str, &[&str])] = &[
    ("red", &["red"]),
    ("RED", &["red"]),
    ("Café", &["cafe"]),
    ("cafe\u{301}", &["cafe"]),
    ("ΟΔΟΣ", &["οδοσ"]),
    ("x1", &["x1"]),
    ("東京", &["東", "京"]),
    ("京", &["京"]),
    ("Straße", &["strasse"]),
    ("?!", &[]),
];

/// A text that is made of [`TEXTS`], and its words in a form in which phrases can be looked for.
fn random_text(random: &mut fastrand::Rng, most: usize) -> (String, String) {
    let (mut text, mut words) = (String::new(), "|".to_owned());
    for _ in 0..random.usize(1..=most) {
        let (some, its_words) = TEXTS[random.usize(..TEXTS.len())];
        text = format!("{text}{some} ");
        its_words
            .iter()
            .for_each(|word| words += &format!("{word}|"));
    }
    (text, words)
}

/// Compares random searches with a plain search in the texts.
pub(crate) async fn random(clients: &[Client]) {
    let mut random = fastrand::Rng::with_seed(11);
    let mut model = Vec::new();
    for n in 0..80 {
        let texts = [random_text(&mut random, 6), random_text(&mut random, 2)];
        let (texts, words): (Vec<String>, Vec<String>) = texts.into_iter().unzip();
        let document = json!({"n": n, "text": texts});
        let before = json!({"n": n, "text": random_text(&mut random, 6).0});
        for client in clients {
            let id = client.create("random", &before).await.unwrap();
            match n % 4 {
                0 => client.delete("random", &id).await.unwrap(),
                _ => client.update("random", &id, &document).await.unwrap(),
            }
        }
        if n % 4 != 0 {
            model.push((n, words));
        }
    }
    for _ in 0..300 {
        let (mut search, mut lists) = (String::new(), [Vec::new(), Vec::new(), Vec::new()]);
        for _ in 0..random.usize(1..4) {
            let list = random.usize(..3);
            let (text, words) = random_text(&mut random, if list == 1 { 3 } else { 1 });
            let text = text.trim();
            search += &[
                format!("{text} "),
                format!("\"{text}\" "),
                format!("-{text} "),
            ][list];
            if words != "|" {
                lists[list].push(words);
            }
        }
        let [any, all, none] = lists;
        let has = |texts: &[String], words: &String| texts.iter().any(|text| text.contains(words));
        let matching = model.iter().filter(|(_, texts)| {
            let found = match all.is_empty() {
                true => any.iter().any(|words| has(texts, words)),
                false => all.iter().all(|words| has(texts, words)),
            };
            found && !none.iter().any(|words| has(texts, words))
        });
        let expected: Vec<i64> = matching.map(|(n, _)| *n).collect();
        let query = json!({"$text": {"$search": search}}).to_string();
        let answers = clients
            .iter()
            .map(|client| client.numbers("random", &query));
        for answer in join_all(answers).await {
            assert_eq!(answer, expected, "{query}");
        }
    }
}
