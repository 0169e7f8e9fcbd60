//! The parameters of paths, with the schemas of names and ids: as strict as the services that check them.

use serde::Deserialize;
use serving::Problem;
use tonic::Status;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Collection {
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) collection: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Document {
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) collection: String,
    #[param(format = "uuid")]
    pub(super) id: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Model {
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    pub(super) id: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ModelAndCollection {
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    pub(super) id: String,
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) collection: String,
}

/// Refuses what the database would refuse for each document.
pub(super) fn check_collection(name: &str) -> Result<(), Status> {
    let valid = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(valid) {
        return Ok(());
    }
    let message = format!(
        "`{name}` is not a valid collection name: use 1 to 64 letters, digits, `_` and `-`"
    );
    Err(Problem::invalid("collection", "COLLECTION_NAME_INVALID", message).into())
}
