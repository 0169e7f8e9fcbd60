//! The method that is called, as the service describes it: server reflection, v1 or v1alpha.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use futures::stream;
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use prost_types::FileDescriptorProto;
use pspd_model::hint::Hinted;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::target::Target;

/// Both versions have the same messages.
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Finds a method by `package.Service/Method`, `package.Service.Method`, or `Method` if one service alone has it.
pub async fn method(target: &Target, wanted: &str) -> anyhow::Result<MethodDescriptor> {
    let services = Services::describe(target.channel().await?).await?;
    services.method(wanted)
}

/// The services of a process, as it describes them.
pub struct Services {
    pool: DescriptorPool,
    names: Vec<String>,
}

impl Services {
    pub async fn describe(channel: Channel) -> anyhow::Result<Services> {
        let described = Reflection::find(channel).await;
        let mut reflection =
            described.context("failed to ask the service for its methods by reflection")?;
        let names = reflection.services().await?;
        let mut pool = DescriptorPool::new();
        for service in &names {
            // Its own description is of no use here.
            if !service.starts_with("grpc.reflection.") {
                reflection.describe(service, &mut pool).await?;
            }
        }
        Ok(Services { pool, names })
    }

    /// All methods, by service.
    pub fn methods(&self) -> Vec<MethodDescriptor> {
        let served = self.pool.services();
        let served = served.filter(|one| self.names.iter().any(|name| name == one.full_name()));
        served
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .collect()
    }

    /// Finds a method by `package.Service/Method`, `package.Service.Method`, or `Method` if one service alone has it.
    pub fn method(&self, wanted: &str) -> anyhow::Result<MethodDescriptor> {
        chosen(&self.methods(), wanted)
    }
}

fn chosen(methods: &[MethodDescriptor], wanted: &str) -> anyhow::Result<MethodDescriptor> {
    let written = |method: &MethodDescriptor| {
        format!("{}/{}", method.parent_service().full_name(), method.name())
    };
    let fits = |method: &&MethodDescriptor| {
        written(method) == wanted || method.full_name() == wanted || method.name() == wanted
    };
    let found: Vec<&MethodDescriptor> = methods.iter().filter(fits).collect();
    let list = |methods: &[&MethodDescriptor]| -> String {
        let names = methods
            .iter()
            .map(|method| format!("`{}`", written(method)));
        names.collect::<Vec<_>>().join(", ")
    };
    match found[..] {
        [method] => Ok(method.clone()),
        [] => bail!(
            "the service has no method `{wanted}`. Its methods: {}",
            list(&methods.iter().collect::<Vec<_>>())
        ),
        _ => bail!(Hinted::new(
            format!("`{wanted}` is a method of several services"),
            format!("Pass one of {}", list(&found)),
        )),
    }
}

/// The reflection service of one version.
struct Reflection {
    client: Grpc<Channel>,
    path: PathAndQuery,
}

impl Reflection {
    /// The newest version that the service has.
    async fn find(channel: Channel) -> anyhow::Result<Reflection> {
        let mut client = Grpc::new(channel);
        client = client.max_decoding_message_size(usize::MAX);
        for path in PATHS {
            let mut reflection = Reflection {
                client: client.clone(),
                path: PathAndQuery::from_static(path),
            };
            match reflection
                .ask(MessageRequest::ListServices(String::new()))
                .await
            {
                Ok(_) => return Ok(reflection),
                Err(status) if status.code() == Code::Unimplemented => {}
                Err(status) => return Err(status.into()),
            }
        }
        bail!("the service does not offer reflection")
    }

    async fn services(&mut self) -> anyhow::Result<Vec<String>> {
        match self
            .ask(MessageRequest::ListServices(String::new()))
            .await?
        {
            MessageResponse::ListServicesResponse(list) => Ok(list
                .service
                .into_iter()
                .map(|service| service.name)
                .collect()),
            other => bail!("reflection answered a list of services with {other:?}"),
        }
    }

    /// Adds the file of a service, and the files that it imports.
    async fn describe(&mut self, service: &str, pool: &mut DescriptorPool) -> anyhow::Result<()> {
        let mut files = BTreeMap::new();
        let asked = MessageRequest::FileContainingSymbol(service.to_owned());
        self.files(asked, &mut files).await?;
        loop {
            let imports = files
                .values()
                .flat_map(|file: &FileDescriptorProto| &file.dependency);
            let mut missing = imports
                .filter(|name| !files.contains_key(*name) && pool.get_file_by_name(name).is_none());
            let missing = missing.next().cloned();
            let Some(name) = missing else { break };
            self.files(MessageRequest::FileByFilename(name.clone()), &mut files)
                .await?;
            ensure!(
                files.contains_key(&name),
                "reflection does not describe `{name}`, which `{service}` needs"
            );
        }
        let new = files.into_values();
        let new = new.filter(|file| pool.get_file_by_name(file.name()).is_none());
        let new: Vec<FileDescriptorProto> = new.collect();
        pool.add_file_descriptor_protos(new)
            .with_context(|| format!("the description of `{service}` is not valid"))
    }

    async fn files(
        &mut self,
        asked: MessageRequest,
        files: &mut BTreeMap<String, FileDescriptorProto>,
    ) -> anyhow::Result<()> {
        let MessageResponse::FileDescriptorResponse(answer) = self.ask(asked).await? else {
            bail!("reflection did not answer with a file");
        };
        for bytes in answer.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&bytes[..])?;
            files.insert(file.name().to_owned(), file);
        }
        Ok(())
    }

    async fn ask(&mut self, message: MessageRequest) -> Result<MessageResponse, Status> {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        self.client
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<ServerReflectionRequest, ServerReflectionResponse> =
            ProstCodec::default();
        let request = Request::new(stream::iter([request]));
        let answers = self.client.streaming(request, self.path.clone(), codec);
        let answer = answers.await?.into_inner().message().await?;
        match answer.and_then(|answer| answer.message_response) {
            Some(MessageResponse::ErrorResponse(error)) => Err(Status::new(
                Code::from_i32(error.error_code),
                error.error_message,
            )),
            Some(response) => Ok(response),
            None => Err(Status::internal("reflection gave no answer")),
        }
    }
}
