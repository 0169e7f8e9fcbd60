//! Generates the messages, the client and the server. The same messages are JSON and XML too, by serde.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .type_attribute("Frame.body", "#[serde(rename_all = \"snake_case\")]")
        .field_attribute("Record.data", "#[serde(with = \"crate::base64\")]")
        .compile_protos(&["records.proto"], &["."])
}
