//! The service's process under test, on a free loopback port, and a client of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{
    CreateRequest, DeleteRequest, QueryRequest, ReadRequest, UpdateRequest,
};
use serde_json::Value as Json;
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The longest that a process may take to come or go.
const LIMIT: Duration = Duration::from_secs(60);

/// A running service; it is killed when dropped.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) address: String,
}

/// The service as a command, with its environment.
pub(crate) fn command(store: &str, environment: &[(&str, &str)]) -> Command {
    configured(
        Command::new(env!("CARGO_BIN_EXE_database-server")),
        store,
        environment,
    )
}

/// Adds the service's environment to a command that will run it.
pub(crate) fn configured(
    mut command: Command,
    store: &str,
    environment: &[(&str, &str)],
) -> Command {
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(std::env::var_os("LLVM_PROFILE_FILE").map(|path| ("LLVM_PROFILE_FILE", path)))
        .env("PSPD_NAME", "database-server")
        .env("PSPD_LISTEN", "127.0.0.1:0")
        .env("PSPD_INSECURE_LOOPBACK", "1")
        .env("DATABASE_STORE", store)
        .envs(environment.iter().copied());
    command
}

impl Server {
    /// Starts the service over a store.
    pub(crate) fn start(store: &str, environment: &[(&str, &str)]) -> Self {
        Self::spawn(command(store, environment)).unwrap_or_else(|logs| panic!("it ended:\n{logs}"))
    }

    /// Starts a command that serves, or returns what it said when it ended instead.
    pub(crate) fn spawn(mut command: Command) -> Result<Self, String> {
        let mut server = Self {
            process: command.stdout(Stdio::piped()).spawn().unwrap(),
            address: String::new(),
        };
        let mut lines = BufReader::new(server.process.stdout.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                return Err(said);
            }
            said.push_str(&line);
            let line: Json = serde_json::from_str(&line).unwrap();
            if line["message"] == "serving" {
                server.address = line["address"].as_str().unwrap().to_owned();
                // Its logs go nowhere, but the pipe must not fill up.
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Ok(server);
            }
        }
    }

    /// A client with a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        Client(connected(endpoint).await)
    }

    /// Memory that the process has resident now, and the most that it had, in KiB.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let value = |name| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (value("VmRSS:"), value("VmHWM:"))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.signal("-TERM");
        let began = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < LIMIT, "it doesn't stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

async fn connected(endpoint: Endpoint) -> DatabaseServiceClient<Channel> {
    let channel = endpoint.connect().await.unwrap();
    DatabaseServiceClient::new(channel)
        .max_encoding_message_size(64 << 20)
        .max_decoding_message_size(64 << 20)
}

/// A client that speaks JSON values.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) DatabaseServiceClient<Channel>);

impl Client {
    pub(crate) async fn create(&self, collection: &str, document: &Json) -> Result<String, Status> {
        self.create_text(collection, document.to_string()).await
    }

    pub(crate) async fn create_text(
        &self,
        collection: &str,
        data: String,
    ) -> Result<String, Status> {
        let collection = collection.to_owned();
        let request = CreateRequest { collection, data };
        let response = self.0.clone().create(request).await?.into_inner();
        assert!(response.success);
        Ok(response.id)
    }

    pub(crate) async fn read(&self, collection: &str, id: &str) -> Result<Json, Status> {
        let data = self.read_text(collection, id).await?;
        Ok(serde_json::from_str(&data).unwrap())
    }

    pub(crate) async fn read_text(&self, collection: &str, id: &str) -> Result<String, Status> {
        let (collection, id) = (collection.to_owned(), id.to_owned());
        let response = self.0.clone().read(ReadRequest { collection, id }).await?;
        Ok(response.into_inner().data)
    }

    pub(crate) async fn update(
        &self,
        collection: &str,
        id: &str,
        document: &Json,
    ) -> Result<(), Status> {
        self.update_text(collection, id, document.to_string()).await
    }

    pub(crate) async fn update_text(
        &self,
        collection: &str,
        id: &str,
        data: String,
    ) -> Result<(), Status> {
        let request = UpdateRequest {
            collection: collection.to_owned(),
            id: id.to_owned(),
            data,
        };
        assert!(self.0.clone().update(request).await?.into_inner().success);
        Ok(())
    }

    pub(crate) async fn delete(&self, collection: &str, id: &str) -> Result<(), Status> {
        let (collection, id) = (collection.to_owned(), id.to_owned());
        let request = DeleteRequest { collection, id };
        assert!(self.0.clone().delete(request).await?.into_inner().success);
        Ok(())
    }

    pub(crate) async fn query(
        &self,
        collection: &str,
        query: &str,
    ) -> Result<Vec<(String, Json)>, Status> {
        let found = self.query_texts(collection, query).await?.into_iter();
        Ok(found
            .map(|(id, data)| (id, serde_json::from_str(&data).unwrap()))
            .collect())
    }

    /// Ids and data.
    pub(crate) async fn query_texts(
        &self,
        collection: &str,
        query: &str,
    ) -> Result<Vec<(String, String)>, Status> {
        let request = QueryRequest {
            collection: collection.to_owned(),
            query: query.to_owned(),
        };
        let mut results = self.0.clone().query(request).await?.into_inner();
        let mut found = Vec::new();
        while let Some(result) = results.message().await? {
            found.push((result.id, result.data));
        }
        Ok(found)
    }

    /// The number in the field `n` of each result.
    pub(crate) async fn numbers(&self, collection: &str, query: &str) -> Vec<i64> {
        let found = self.query(collection, query).await;
        let found = found.unwrap_or_else(|status| panic!("{query}: {status}"));
        found
            .into_iter()
            .map(|(_, document)| document["n"].as_i64().unwrap())
            .collect()
    }
}

/// A folder and the path of a store in it.
pub(crate) fn place() -> (TempDir, String) {
    let folder = tempfile::Builder::new()
        .prefix("pspd-database-")
        .tempdir()
        .unwrap();
    let store = folder.path().join("store.sqlite");
    (folder, text(&store))
}

pub(crate) fn text(path: &Path) -> String {
    PathBuf::from(path).into_os_string().into_string().unwrap()
}

/// Runs a maintenance command on a store.
pub(crate) fn maintain(store: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_database-server"))
        .args(arguments)
        .env("DATABASE_STORE", store)
        .output()
        .unwrap()
}
