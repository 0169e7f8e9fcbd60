//! Calls to the other services: deadlines on all of them, retries for those that are idempotent, errors described.

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
use serving::channel::{deadline, retry};
use serving::{Dependency, Link, MESSAGE_LIMIT, Problem, error};
use tonic::{Request, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const DEADLINE: Duration = Duration::from_secs(10);
const HEALTH_DEADLINE: Duration = Duration::from_secs(3);
const TRAINING_DEADLINE: Duration = Duration::from_secs(300);
/// Between two results of a query.
const RESULT_DEADLINE: Duration = Duration::from_secs(10);

/// The database and the AI service.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    own_name: String,
    database: DatabaseServiceClient<Link>,
    database_health: HealthClient<Link>,
    database_name: String,
    ai: AiServiceClient<Link>,
    ai_health: HealthClient<Link>,
    ai_name: String,
}

impl Backends {
    pub(crate) fn new(own_name: &str, database: &Dependency, ai: &Dependency) -> Self {
        let (database_link, ai_link) = (database.connect(), ai.connect());
        Self {
            own_name: own_name.to_owned(),
            database: DatabaseServiceClient::new(database_link.clone())
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT),
            database_health: HealthClient::new(database_link),
            database_name: database.name.clone(),
            ai: AiServiceClient::new(ai_link.clone())
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT),
            ai_health: HealthClient::new(ai_link),
            ai_name: ai.name.clone(),
        }
    }

    /// The state of all three services, this one included.
    pub(crate) async fn states(&self) -> Vec<BackendState> {
        let (database, ai) = tokio::join!(
            state(
                &self.database_health,
                &self.database_name,
                "database.DatabaseService"
            ),
            state(&self.ai_health, &self.ai_name, "ai.AiService"),
        );
        let own = BackendState {
            name: self.own_name.clone(),
            serving: true,
            detail: "SERVING".to_owned(),
        };
        vec![database, ai, own]
    }

    pub(crate) async fn create(&self, collection: &str, data: String) -> Result<String, Status> {
        let request = CreateRequest {
            collection: collection.to_owned(),
            data,
        };
        let response = self
            .database
            .clone()
            .create(deadline(request, DEADLINE))
            .await;
        Ok(response
            .map_err(|status| self.of_database(status))?
            .into_inner()
            .id)
    }

    pub(crate) async fn read(&self, collection: &str, id: &str) -> Result<String, Status> {
        let response = retry(|| async {
            let request = ReadRequest {
                collection: collection.to_owned(),
                id: id.to_owned(),
            };
            self.database
                .clone()
                .read(deadline(request, DEADLINE))
                .await
        });
        Ok(response
            .await
            .map_err(|status| self.of_database(status))?
            .into_inner()
            .data)
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
        let response = self
            .database
            .clone()
            .update(deadline(request, DEADLINE))
            .await;
        response
            .map(drop)
            .map_err(|status| self.of_database(status))
    }

    pub(crate) async fn delete(&self, collection: &str, id: &str) -> Result<(), Status> {
        let request = DeleteRequest {
            collection: collection.to_owned(),
            id: id.to_owned(),
        };
        let response = self
            .database
            .clone()
            .delete(deadline(request, DEADLINE))
            .await;
        response
            .map(drop)
            .map_err(|status| self.of_database(status))
    }

    /// Begins a query; repeated only while no result has come.
    pub(crate) async fn query(&self, collection: &str, query: String) -> Result<Documents, Status> {
        let results = retry(|| async {
            let request = QueryRequest {
                collection: collection.to_owned(),
                query: query.clone(),
            };
            let mut call = self.database.clone();
            tokio::time::timeout(DEADLINE, call.query(request))
                .await
                .map_err(|_| Status::deadline_exceeded("the query did not begin in time"))?
        });
        let results = results.await.map_err(|status| self.of_database(status))?;
        Ok(Documents {
            results: results.into_inner(),
            database: self.database_name.clone(),
        })
    }

    pub(crate) async fn predict(
        &self,
        text: &str,
        model_id: &str,
    ) -> Result<PredictResponse, Status> {
        let response = retry(|| async {
            let request = PredictRequest {
                input_data: text.to_owned(),
                model_id: model_id.to_owned(),
            };
            self.ai.clone().predict(deadline(request, DEADLINE)).await
        });
        Ok(response
            .await
            .map_err(|status| self.of_ai(status))?
            .into_inner())
    }

    pub(crate) async fn train(
        &self,
        model_id: &str,
        examples: impl Stream<Item = TrainingData> + Send + 'static,
    ) -> Result<TrainingStatus, Status> {
        let mut request = Request::new(examples);
        request.set_timeout(TRAINING_DEADLINE);
        let id = model_id.parse().map_err(|_| {
            Status::from(Problem::invalid(
                "model_id",
                "MODEL_ID_INVALID",
                "the model's id is not ASCII text",
            ))
        })?;
        request.metadata_mut().insert("model-id", id);
        let response = self.ai.clone().train_model(request).await;
        Ok(response.map_err(|status| self.of_ai(status))?.into_inner())
    }

    /// A model's metrics as they are now.
    pub(crate) async fn metrics(&self, model_id: &str) -> Result<ModelMetrics, Status> {
        let first = async {
            let request = ModelIdentifier {
                model_id: model_id.to_owned(),
            };
            let mut metrics = self.ai.clone().monitor_model(request).await?.into_inner();
            metrics.message().await
        };
        let first = tokio::time::timeout(DEADLINE, first)
            .await
            .map_err(|_| Status::deadline_exceeded("no metrics came in time"));
        let first = first
            .and_then(|outcome| outcome)
            .map_err(|status| self.of_ai(status))?;
        Ok(first.unwrap_or_default())
    }

    fn of_database(&self, status: Status) -> Status {
        error::from_dependency(status, &self.database_name)
    }

    fn of_ai(&self, status: Status) -> Status {
        error::from_dependency(status, &self.ai_name)
    }
}

/// The results of a query as they come.
#[derive(Debug)]
pub(crate) struct Documents {
    results: Streaming<QueryResponse>,
    database: String,
}

impl Documents {
    pub(crate) async fn next(&mut self) -> Result<Option<QueryResponse>, Status> {
        let result = tokio::time::timeout(RESULT_DEADLINE, self.results.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the query stalled"));
        result
            .and_then(|outcome| outcome)
            .map_err(|status| error::from_dependency(status, &self.database))
    }
}

async fn state(health: &HealthClient<Link>, name: &str, service: &str) -> BackendState {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut check = health.clone();
    let answer = tokio::time::timeout(
        HEALTH_DEADLINE,
        check.check(deadline(request, HEALTH_DEADLINE)),
    )
    .await;
    let (serving, detail) = match answer {
        Ok(Ok(response)) => {
            let status = response.into_inner().status();
            (
                status as i32 == ServingStatus::Serving as i32,
                status.as_str_name().to_owned(),
            )
        }
        Ok(Err(status)) => (false, status.message().to_owned()),
        Err(_) => (
            false,
            format!("no answer within {} s", HEALTH_DEADLINE.as_secs()),
        ),
    };
    BackendState {
        name: name.to_owned(),
        serving,
        detail,
    }
}
