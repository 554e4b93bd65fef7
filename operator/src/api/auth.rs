//! Who asks, and what they may: both are the API server's to say.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use spiderpool_kit::deadline::{Failure, within};

/// For whom a token has to be made. One for the API server is not sent to anybody else, and is of no use here.
pub const AUDIENCE: &str = "ipam.spidernet.io";
/// Group of the resources that rights are given for. They exist in roles only.
const GROUP: &str = "ipam.spidernet.io";
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Check,
    Repair,
}

impl Right {
    const fn verb(self) -> &'static str {
        match self {
            Self::Check => "get",
            Self::Repair => "create",
        }
    }

    const fn resource(self) -> &'static str {
        match self {
            Self::Check => "checks",
            Self::Repair => "repairs",
        }
    }
}

/// Why somebody is sent away.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// There is no token.
    #[error(
        "send a token: `curl -H \"Authorization: Bearer $(kubectl create token NAME --audience={AUDIENCE})\"`, where NAME is a \
         service account"
    )]
    NoToken,
    /// The API server does not know the token.
    #[error("the API server does not accept the token for the audience {AUDIENCE}: {0}")]
    Unknown(String),
    /// The user has no such right.
    #[error("{user} may not {verb} {resource} of {GROUP}; bind a ClusterRole with that right")]
    Forbidden {
        /// Who that is.
        user: String,
        /// What they want to do.
        verb: &'static str,
        /// With what.
        resource: &'static str,
    },
    /// The API server could not be asked.
    #[error("{0}")]
    Unasked(#[source] Failure<kube::Error>),
}

/// The name of the user, if they may.
pub(super) async fn allowed(client: &Client, headers: &HeaderMap, right: Right) -> Result<String, Denied> {
    let token = token(headers).ok_or(Denied::NoToken)?;
    let user = user(client, token).await?;
    let name = user.username.clone().unwrap_or_default();
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some(right.resource().to_owned()),
                verb: Some(right.verb().to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let what = format!("asking what {name} may do");
    let answer = within(DEADLINE, what, reviews.create(&PostParams::default(), &review)).await;
    let status = answer.map_err(Denied::Unasked)?.status;
    match status.is_some_and(|status| status.allowed && status.denied != Some(true)) {
        true => Ok(name),
        false => Err(Denied::Forbidden {
            user: name,
            verb: right.verb(),
            resource: right.resource(),
        }),
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

async fn user(client: &Client, token: &str) -> Result<UserInfo, Denied> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(vec![AUDIENCE.to_owned()]),
        },
        ..TokenReview::default()
    };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let what = "asking whose token that is".to_owned();
    let answer = within(DEADLINE, what, reviews.create(&PostParams::default(), &review)).await;
    let status = answer.map_err(Denied::Unasked)?.status.unwrap_or_default();
    // An API server that knows nothing of audiences answers without one: then the token was meant for it, and not for us.
    let meant = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
    let user = status
        .user
        .filter(|user| user.username.as_ref().is_some_and(|name| !name.is_empty()));
    match user.filter(|_| status.authenticated == Some(true) && meant) {
        Some(user) => Ok(user),
        None => Err(Denied::Unknown(
            status.error.unwrap_or_else(|| "it is another's, or over".to_owned()),
        )),
    }
}
