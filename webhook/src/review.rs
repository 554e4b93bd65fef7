//! What the API server asks a webhook, and what it is answered: AdmissionReview v1.
//!
//! Objects stay the JSON that they came as: whoever judges one reads of it what it needs, and an object that is not what it should
//! be can be answered like any other. The client library's own types would read each object in passing, and refuse the whole
//! request for one that they cannot read.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, extract::rejection::BytesRejection};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const KIND: &str = "AdmissionReview";
const API_VERSION: &str = "admission.k8s.io/v1";
/// The API server cuts off what is longer in all, so that the first ones are better than parts of many.
const MOST_WARNINGS: usize = 10;
/// Most characters of a refusal that the log has. Whoever may create pods decides how long it is.
const MOST_LOGGED: usize = 1000;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Somebody connects to it.
    Connect,
}

/// Kind of an object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Kind {
    /// API group; empty for that of pods.
    #[serde(default)]
    pub group: String,
    /// API version.
    pub version: String,
    /// The kind.
    pub kind: String,
}

/// What the API server asks: whether an object may be stored, or what it lacks.
///
/// As an argument of a handler it is read from the request; what is no such question is answered with 400.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Of this very question.
    pub uid: String,
    /// Kind of the object.
    pub kind: Kind,
    /// Name of the object; empty if the API server is to make one.
    #[serde(default)]
    pub name: String,
    /// Its namespace, if it is in one.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What happens to it.
    pub operation: Operation,
    /// The object as it is to be; none of one that is deleted.
    #[serde(default)]
    pub object: Option<Value>,
    /// The object as it is; none of one that is made.
    #[serde(default)]
    pub old_object: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    api_version: String,
    kind: String,
    request: Option<Review>,
}

impl Review {
    /// Reads the body of a request. The error is for whoever sent it.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let envelope: Envelope =
            serde_json::from_slice(body).map_err(|error| format!("failed to read the body as {KIND}: {error}"))?;
        if envelope.kind != KIND || envelope.api_version != API_VERSION {
            let (version, kind) = (envelope.api_version, envelope.kind);
            return Err(format!("the body is {version} {kind}; send {API_VERSION} {KIND}"));
        }
        let request = envelope.request;
        request.ok_or_else(|| format!("the {KIND} has no request; nothing is asked"))
    }

    /// What to call the object: its name, or the beginning of the name that it gets.
    pub fn called(&self) -> &str {
        let metadata = self.object.as_ref().map(|object| &object["metadata"]);
        let member = |name| metadata.and_then(|metadata| metadata[name].as_str());
        let name = Some(self.name.as_str()).filter(|name| !name.is_empty());
        let name = name.or_else(|| member("name"));
        name.or_else(|| member("generateName")).unwrap_or_default()
    }

    /// The response to this question.
    pub fn reply(&self, answer: Answer) -> Response {
        let told = Told {
            kind: self.kind.kind.clone(),
            operation: self.operation,
            verdict: answer.verdict(),
            rule: answer.rule,
        };
        if let Some(status) = &answer.status {
            let message = status.message.as_deref().unwrap_or_default();
            let message = shortened(message, MOST_LOGGED);
            tracing::info!(
                kind = told.kind,
                name = self.called(),
                rule = told.rule,
                message = &*message,
                "refused"
            );
        }
        let mut warnings = answer.warnings;
        let more = warnings.len().saturating_sub(MOST_WARNINGS);
        if more > 0 {
            warnings.truncate(MOST_WARNINGS);
            warnings.push(format!("and {more} more warnings"));
        }
        let response = Reply {
            uid: &self.uid,
            allowed: answer.status.is_none(),
            status: answer.status,
            patch_type: answer.patch.as_ref().map(|_| "JSONPatch"),
            patch: answer.patch.map(ByteString),
            warnings,
        };
        let mut response = Json(serde_json::json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "response": response,
        }))
        .into_response();
        response.extensions_mut().insert(told);
        response
    }
}

impl<S: Send + Sync> FromRequest<S> for Review {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error: BytesRejection| error.into_response())?;
        Self::read(&body).map_err(|why| (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// What became of a question, for the metrics: an extension of each response.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) kind: String,
    pub(crate) operation: Operation,
    pub(crate) verdict: &'static str,
    pub(crate) rule: Option<&'static str>,
}

/// What a webhook answers.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    status: Option<Status>,
    rule: Option<&'static str>,
    patch: Option<Vec<u8>>,
    warnings: Vec<String>,
}

impl Answer {
    /// The object is taken as it is.
    pub fn allowed() -> Self {
        Self::default()
    }

    /// The object is taken with these changes, the operations of a JSON patch. None is no change.
    pub fn patched(operations: Vec<Value>) -> Self {
        let patch = (!operations.is_empty()).then(|| Value::Array(operations).to_string().into_bytes());
        Self {
            patch,
            ..Self::default()
        }
    }

    /// The object is refused for some of its fields, with the status that the API server itself gives then: 422, a cause for
    /// each field. `rule` is the first that is broken, for the metrics.
    pub fn invalid(review: &Review, rule: &'static str, causes: Vec<StatusCause>) -> Self {
        let texts: Vec<String> = causes
            .iter()
            .map(|cause| {
                let (field, message) = (cause.field.as_deref(), cause.message.as_deref());
                format!("{}: {}", field.unwrap_or_default(), message.unwrap_or_default())
            })
            .collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let Kind { group, kind, .. } = &review.kind;
        let of_group = if group.is_empty() {
            String::new()
        } else {
            format!(".{group}")
        };
        let message = format!("{kind}{of_group} {:?} is invalid: {text}", review.called());
        let mut answer = Self::refused(review, rule, 422, "Invalid", message);
        if let Some(details) = answer.status.as_mut().and_then(|status| status.details.as_mut()) {
            details.causes = Some(causes);
        }
        answer
    }

    /// The request is refused as a whole, with this HTTP status and Kubernetes' word for it. `rule` is for the metrics.
    pub fn refused(review: &Review, rule: &'static str, code: i32, reason: &str, message: String) -> Self {
        let details = StatusDetails {
            group: Some(review.kind.group.clone()).filter(|group| !group.is_empty()),
            kind: Some(review.kind.kind.clone()),
            name: Some(review.called().to_owned()),
            ..StatusDetails::default()
        };
        let status = Status {
            status: Some("Failure".to_owned()),
            code: Some(code),
            reason: Some(reason.to_owned()),
            message: Some(message),
            details: Some(details),
            ..Status::default()
        };
        Self {
            status: Some(status),
            rule: Some(rule),
            ..Self::default()
        }
    }

    /// The same, with warnings for whoever sent the object.
    #[must_use]
    pub fn warn(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    const fn verdict(&self) -> &'static str {
        match (&self.status, &self.patch, self.warnings.is_empty()) {
            (Some(_), ..) => "refused",
            (None, Some(_), _) => "changed",
            (None, None, false) => "warned",
            (None, None, true) => "allowed",
        }
    }
}

/// The beginning of a text of somebody else's, if all of it would be too much.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// One field of an object, and why it may not be so: `kind` is `FieldValueInvalid`, `FieldValueForbidden` and so on, `message` what
/// the API server would say after the name of the field.
pub fn cause(kind: &str, field: impl Into<String>, message: impl Into<String>) -> StatusCause {
    StatusCause {
        reason: Some(kind.to_owned()),
        field: Some(field.into()),
        message: Some(message.into()),
    }
}
