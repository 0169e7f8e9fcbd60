//! The calls that this service makes to the database and the AI service.

use std::time::Duration;

use futures::Stream;
use pspd_proto::ai::ai_service_client::AiServiceClient;
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use pspd_proto::business::BackendState;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{
    CreateRequest, DeleteRequest, QueryRequest, QueryResponse, ReadRequest, UpdateRequest,
};
use serving::{Dependency, Link, MESSAGE_LIMIT, Problem};
use tonic::{Status, Streaming};

use crate::backend::Backend;
use crate::deadline::Deadline;

const LIMIT: Duration = Duration::from_secs(10);
/// A document that is too large by no more than this is for the database to refuse.
const MESSAGE_MARGIN: usize = 64 * 1024;
const TRAINING_LIMIT: Duration = Duration::from_secs(300);

type Database = Backend<DatabaseServiceClient<Link>>;
type Ai = Backend<AiServiceClient<Link>>;

/// The database and the AI service.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    own_name: String,
    database: Database,
    ai: Ai,
}

impl Backends {
    pub(crate) fn new(own_name: &str, database: &Dependency, ai: &Dependency) -> Self {
        Self {
            own_name: own_name.to_owned(),
            database: Backend::new(database, |link| {
                DatabaseServiceClient::new(link)
                    .max_decoding_message_size(MESSAGE_LIMIT)
                    .max_encoding_message_size(MESSAGE_LIMIT + MESSAGE_MARGIN)
            }),
            ai: Backend::new(ai, |link| {
                AiServiceClient::new(link)
                    .max_decoding_message_size(MESSAGE_LIMIT)
                    .max_encoding_message_size(MESSAGE_LIMIT)
            }),
        }
    }

    /// The same backends for one caller, with its deadline for all calls.
    pub(crate) fn until(&self, deadline: Deadline) -> Self {
        let mut backends = self.clone();
        backends.database.deadline = deadline;
        backends.ai.deadline = deadline;
        backends
    }

    /// The names of all three services, in the order of their states.
    pub(crate) fn names(&self) -> [&str; 3] {
        [&self.database.name, &self.ai.name, &self.own_name]
    }

    /// The state of all three services, this one included.
    pub(crate) async fn states(&self) -> [BackendState; 3] {
        let (database, ai) = tokio::join!(
            self.database.state("database.DatabaseService"),
            self.ai.state("ai.AiService"),
        );
        let own = BackendState {
            name: self.own_name.clone(),
            serving: true,
            detail: "SERVING".to_owned(),
            milliseconds: 0.0,
        };
        [database, ai, own]
    }

    pub(crate) async fn create(&self, collection: &str, data: String) -> Result<String, Status> {
        let request = CreateRequest {
            collection: collection.to_owned(),
            data,
        };
        let answer = self
            .database
            .once(LIMIT, request, |mut client, request| async move {
                client.create(request).await
            });
        Ok(answer.await?.id)
    }

    pub(crate) async fn read(&self, collection: &str, id: &str) -> Result<String, Status> {
        let request = ReadRequest {
            collection: collection.to_owned(),
            id: id.to_owned(),
        };
        let answer = self
            .database
            .repeatedly(LIMIT, request, |mut client, request| async move {
                client.read(request).await
            });
        Ok(answer.await?.data)
    }

    pub(crate) async fn update(
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
        // Repeating it could overwrite what another caller wrote meanwhile.
        let answer = self
            .database
            .once(LIMIT, request, |mut client, request| async move {
                client.update(request).await
            });
        answer.await.map(drop)
    }

    pub(crate) async fn delete(&self, collection: &str, id: &str) -> Result<(), Status> {
        let request = DeleteRequest {
            collection: collection.to_owned(),
            id: id.to_owned(),
        };
        // Repeating it could return NOT_FOUND for a document that the first attempt deleted.
        let answer = self
            .database
            .once(LIMIT, request, |mut client, request| async move {
                client.delete(request).await
            });
        answer.await.map(drop)
    }

    /// Starts a query; repeated only while no result has been received.
    pub(crate) async fn query(&self, collection: &str, query: String) -> Result<Found, Status> {
        let request = QueryRequest {
            collection: collection.to_owned(),
            query,
        };
        let results = self
            .database
            .streamed(LIMIT, request, |mut client, request| async move {
                client.query(request).await
            });
        Ok(Found {
            results: results.await?,
            database: self.database.clone(),
        })
    }

    pub(crate) async fn predict(
        &self,
        text: &str,
        model_id: &str,
    ) -> Result<PredictResponse, Status> {
        let request = PredictRequest {
            input_data: text.to_owned(),
            model_id: model_id.to_owned(),
        };
        let answer = self
            .ai
            .repeatedly(LIMIT, request, |mut client, request| async move {
                client.predict(request).await
            });
        answer.await
    }

    pub(crate) async fn train(
        &self,
        model_id: &str,
        examples: impl Stream<Item = TrainingData> + Send + 'static,
    ) -> Result<TrainingStatus, Status> {
        let id = model_id.parse().map_err(|_| {
            Status::from(Problem::invalid(
                "model_id",
                "MODEL_ID_INVALID",
                "the model's id is not ASCII text",
            ))
        })?;
        let answer = self
            .ai
            .once(TRAINING_LIMIT, examples, |mut client, mut request| {
                request.metadata_mut().insert("model-id", id);
                async move { client.train_model(request).await }
            });
        answer.await
    }

    /// A model's current metrics.
    pub(crate) async fn metrics(&self, model_id: &str) -> Result<ModelMetrics, Status> {
        let request = ModelIdentifier {
            model_id: model_id.to_owned(),
        };
        let mut metrics = self
            .ai
            .streamed(LIMIT, request, |mut client, request| async move {
                client.monitor_model(request).await
            })
            .await?;
        let first = self.ai.part(LIMIT, metrics.message()).await?;
        Ok(first.unwrap_or_default())
    }
}

/// The results of a query, as they arrive.
#[derive(Debug)]
pub(crate) struct Found {
    results: Streaming<QueryResponse>,
    database: Database,
}

impl Found {
    pub(crate) async fn next(&mut self) -> Result<Option<QueryResponse>, Status> {
        self.database.part(LIMIT, self.results.message()).await
    }
}
