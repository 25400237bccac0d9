//! Token servers: a GET with Basic credentials or none, or a POST with an identity token.
//!
//! Protocol: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

use super::asked::{Asked, Object};
use super::auth::basic_value;
use super::credentials::{Credential, Found, Hidden, Used};
use super::error::Error;
use super::transport::{Request, Transport};

/// Tokens are a few KiB, with some registries' lists of rights more.
const MOST_BYTES: u64 = 1 << 20;

/// The specification's default; shorter ones are taken for it as well, as Docker does.
const SHORTEST_LIFE: u64 = 60;
const LONGEST_LIFE: u64 = 24 * 3600;

/// A token is given up a little before its end.
const LEEWAY: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) found: Option<Found>,
    pub(super) registry: &'a str,
}

#[derive(Deserialize)]
struct Wire {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(&'static str);

/// Asks once. The header for the registry, and until when it is good.
pub(super) async fn fetch(
    transport: &Transport,
    wanted: &Wanted<'_>,
    used: &Used,
) -> Result<(HeaderValue, Instant), Error> {
    let asked = Asked::new(Object::Token { registry: wanted.registry.into() }, &wanted.realm);
    let started = Instant::now();
    let answer = transport.send(request(wanted, asked.clone())).await?;
    let answer = answer.accepted(wanted.registry, used.clone()).await?;
    let bytes = answer.body.whole(MOST_BYTES, transport.timeouts.document).await?;
    // Neither the parser's error nor the text is shown: they may hold the token.
    let malformed = |what| Error::Malformed { asked: Box::new(asked.clone()), source: Box::new(Unusable(what)) };
    let wire: Wire = serde_json::from_slice(&bytes).map_err(|_| malformed("it is not a token server's"))?;
    let token = wire.token.or(wire.access_token).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| malformed("it has no token"))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| malformed("its token is not one"))?;
    value.set_sensitive(true);
    let life = wire.expires_in.unwrap_or(SHORTEST_LIFE).clamp(SHORTEST_LIFE, LONGEST_LIFE);
    Ok((value, started + Duration::from_secs(life) - LEEWAY))
}

fn request(wanted: &Wanted<'_>, asked: Asked) -> Request {
    let mut url = wanted.realm.clone();
    let credential = wanted.found.as_ref().map(|found| &found.credential);
    if let Some(Credential::IdentityToken(identity)) = credential {
        let form = form(wanted, &[("grant_type", "refresh_token"), ("refresh_token", &identity.0)]);
        return Request { form: Some(Hidden(form)), ..Request::get(asked, url) };
    }
    url.query_pairs_mut().extend_pairs(common(wanted));
    let authorization = match credential {
        Some(Credential::Password { user, password }) => {
            url.query_pairs_mut().append_pair("account", user);
            basic_value(user, &password.0)
        }
        _ => None,
    };
    Request { authorization, ..Request::get(asked, url) }
}

fn common<'a>(wanted: &'a Wanted<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let service = wanted.service.as_deref().map(|service| ("service", service));
    service.into_iter().chain([("scope", wanted.scope.as_str())])
}

fn form(wanted: &Wanted<'_>, own: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(own)
        .append_pair("client_id", "k3arm")
        .extend_pairs(common(wanted))
        .finish()
}
