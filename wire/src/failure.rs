//! Bodies of failed requests: a bare JSON string, not an object.

/// Encodes a failure's text as the body of a response.
pub fn error_body(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// Reads a failure's text from the body of a response. A body that is not a JSON string is given back as text as it is, because
/// what another layer said is worth more to the reader than a second complaint about its form.
pub fn error_text(body: &[u8]) -> String {
    match serde_json::from_slice::<String>(body) {
        Ok(text) => text,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}
