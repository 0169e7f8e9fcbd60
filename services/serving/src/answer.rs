//! Unary answers, of which only large ones are compressed.

use prost::Message;
use tonic::Response;

/// In bytes. Compressing less saves no packet, but takes longer than most calls.
const WORTH_COMPRESSING: usize = 1024;

/// A unary answer. Some clients accept gzip without being asked to (grpcio, grpc-java).
pub fn answer<T: Message>(message: T) -> Response<T> {
    let small = message.encoded_len() < WORTH_COMPRESSING;
    let mut response = Response::new(message);
    if small {
        response.disable_compression();
    }
    response
}
