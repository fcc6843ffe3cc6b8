//! From a request to its answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::face::{Problem, ProblemKind, Reply, Request, RolloutOrder, Written};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{Asker, StackName, Token, TokenId};
use dunlin_net::JoinToken;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Body, Frame};
use hyper::{Method, Response, StatusCode, Uri, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast::error::RecvError;

use super::Context;
use super::call::{Listing, Question};
use super::orders;
use super::single;
use super::table::{self, Route};
use super::trust;
use super::types::{
    CheckRow, DeployBody, ErrorBody, NewToken, PlanBody, RemoveBody, ResolveBody, RolloutBody, RolloutWord, ScaleBody,
    TokenBody, WhatIfBody, WrittenBody, status_of,
};
use crate::clock;
use crate::doctor::{self, Examined};
use crate::names::RESOLV_CONF;
use crate::relay::{self, Part};

/// Largest body of a request.
const MAX_BODY: usize = 8 << 20;
/// For a body to arrive.
const BODY: Duration = Duration::from_secs(30);
/// For `at_least`.
const CATCH_UP: Duration = Duration::from_secs(10);
/// The longest time that a write may be waited for.
const MAX_WAIT: Duration = Duration::from_secs(3_600);
/// A followed stream says that it lives after this silence.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Answers one request; every problem becomes an error document.
pub(super) async fn answer<B>(
    context: Arc<Context>,
    by: Asker,
    request: hyper::Request<B>,
) -> Result<Answer, Infallible>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let result = async {
        let path = head.uri.path();
        let (route, id) = Route::of(&head.method, path).ok_or_else(|| unknown(&head.method, path))?;
        let query = Query::of(&head.uri)?;
        if let Some(hlc) = query.number("at_least")? {
            let request = Request::AtLeast { hlc: Hlc(hlc), timeout: CATCH_UP };
            context.door.request(Asker::default(), request).await?;
        }
        match route {
            Route::List(listing) => list(&context, listing).await,
            Route::Doctor => json(StatusCode::OK, &doctor(&context).await?),
            Route::ResolveName => resolve_name(&context, &query).await,
            Route::Zone => zone(&context).await,
            Route::OpenApi => json(StatusCode::OK, &table::openapi()),
            Route::Events => events(&context, query.flag("follow")?).await,
            Route::Logs => logs(&context, &query).await,
            Route::Explain => explain(&context, &query).await,
            Route::Plan => plan(&context, &collect(body).await?).await,
            Route::WhatIf => what_if(&context, &collect(body).await?).await,
            Route::Deploy => deploy(&context, &by, &collect(body).await?).await,
            Route::Add => single::add(&context, &by, parse(&collect(body).await?)?).await,
            Route::Drop => single::drop(&context, &by, parse(&collect(body).await?)?).await,
            Route::Scale => scale(&context, &by, &collect(body).await?).await,
            Route::Rollout => rollout(&context, &by, &collect(body).await?).await,
            Route::Remove => remove(&context, &by, &collect(body).await?).await,
            Route::Resolve => resolve(&context, &by, &collect(body).await?).await,
            Route::OrderNode => orders::order(&context, &by, parse(&collect(body).await?)?).await,
            Route::RemoveNode => trust::remove_node(&context, &by, parse(&collect(body).await?)?).await,
            Route::RotateAuthority => trust::rotate(&context, &by).await,
            Route::NewToken => new_token(&context, &by, parse(&collect(body).await?)?).await,
            Route::RemoveToken => remove_token(&context, &by, id).await,
        }
    };
    Ok(result.await.unwrap_or_else(|problem| refuse(&problem)))
}

async fn list(context: &Arc<Context>, listing: Listing) -> Result<Answer, Problem> {
    let body = Bytes::from(context.door.list(listing).await?);
    if listing == Listing::Metrics {
        return Ok(streaming("text/plain; version=0.0.4", UnsyncBoxBody::new(Full::new(body))));
    }
    Ok(document(StatusCode::OK, body))
}

async fn doctor(context: &Arc<Context>) -> Result<Vec<CheckRow>, Problem> {
    let Examined { mut checks, dns, zone } = context.door.examine().await?;
    checks.push(doctor::dns(&dns, &zone).await);
    let text = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
    checks.push(doctor::resolver(&dns, &zone, &text));
    Ok(checks)
}

async fn explain(context: &Arc<Context>, query: &Query) -> Result<Answer, Problem> {
    let replica = query
        .text("replica")
        .ok_or_else(|| problem(ProblemKind::BadRequest, "say which replica: explain?replica=shop/web.1".into()))?;
    asked(context, Question::Explain(replica.to_owned())).await
}

async fn resolve_name(context: &Arc<Context>, query: &Query) -> Result<Answer, Problem> {
    let name = query
        .text("name")
        .ok_or_else(|| problem(ProblemKind::BadRequest, "say which name: dns?name=web.shop".into()))?;
    Ok(document(StatusCode::OK, context.door.resolve(name.to_owned()).await?.into()))
}

async fn zone(context: &Arc<Context>) -> Result<Answer, Problem> {
    let zone = context.door.zone().await?;
    let lines: String = zone.export().iter().map(|record| format!("{record}\n")).collect();
    Ok(streaming("text/dns", UnsyncBoxBody::new(Full::new(Bytes::from(lines)))))
}

async fn plan(context: &Arc<Context>, body: &[u8]) -> Result<Answer, Problem> {
    let PlanBody { stack, services } = parse(body)?;
    asked(context, Question::Plan(stack_name(&stack)?, services)).await
}

async fn what_if(context: &Arc<Context>, body: &[u8]) -> Result<Answer, Problem> {
    let WhatIfBody { changes } = parse(body)?;
    asked(context, Question::WhatIf(changes)).await
}

async fn asked(context: &Arc<Context>, question: Question) -> Result<Answer, Problem> {
    Ok(document(StatusCode::OK, context.door.question(question).await?.into()))
}

async fn deploy(context: &Arc<Context>, by: &Asker, body: &[u8]) -> Result<Answer, Problem> {
    let DeployBody { stack, services, policies, waves, ack, timeout_ms } = parse(body)?;
    let timeout = within(timeout_ms);
    let request = Request::Deploy { stack: stack_name(&stack)?, services, policies, waves, ack, timeout };
    written(context, by, request).await
}

async fn scale(context: &Arc<Context>, by: &Asker, body: &[u8]) -> Result<Answer, Problem> {
    let ScaleBody { service, replicas, ack, timeout_ms } = parse(body)?;
    let service = context.door.service(service).await?;
    written(context, by, Request::Scale { service, replicas, ack, timeout: within(timeout_ms) }).await
}

async fn rollout(context: &Arc<Context>, by: &Asker, body: &[u8]) -> Result<Answer, Problem> {
    let RolloutBody { service, order, ack, timeout_ms } = parse(body)?;
    let service = context.door.service(service).await?;
    let order = match order {
        RolloutWord::Pause => RolloutOrder::Pause,
        RolloutWord::Resume => RolloutOrder::Resume,
        RolloutWord::Promote => RolloutOrder::Promote,
        RolloutWord::Undo { to: None } => RolloutOrder::Undo { to: None },
        RolloutWord::Undo { to: Some(text) } => {
            RolloutOrder::Undo { to: Some(context.door.revision(service.clone(), text).await?) }
        }
    };
    written(context, by, Request::Rollout { service, order, ack, timeout: within(timeout_ms) }).await
}

async fn remove(context: &Arc<Context>, by: &Asker, body: &[u8]) -> Result<Answer, Problem> {
    let RemoveBody { stack, ack, timeout_ms } = parse(body)?;
    written(context, by, Request::Remove { stack: stack_name(&stack)?, ack, timeout: within(timeout_ms) }).await
}

async fn resolve(context: &Arc<Context>, by: &Asker, body: &[u8]) -> Result<Answer, Problem> {
    let ResolveBody { what, keep, ack, timeout_ms } = parse(body)?;
    let register = context.door.conflict(what).await?;
    let keep = u64::from_str_radix(&keep, 16).map_err(|_| {
        problem(ProblemKind::BadRequest, format!("{keep} names no version; `dunlin conflicts` lists them"))
    })?;
    written(context, by, Request::Resolve { register, keep, ack, timeout: within(timeout_ms) }).await
}

async fn remove_token(context: &Arc<Context>, by: &Asker, id: &str) -> Result<Answer, Problem> {
    let id = u64::from_str_radix(id, 16).map_err(|_| {
        problem(ProblemKind::BadRequest, format!("{id} is no token's id; `dunlin token ls` lists them"))
    })?;
    written(context, by, Request::RemoveToken(TokenId(id))).await
}

pub(super) async fn written(context: &Arc<Context>, by: &Asker, request: Request) -> Result<Answer, Problem> {
    json(StatusCode::OK, &keep(context, by, request).await?)
}

/// Makes a write, and tells what is known of it.
pub(super) async fn keep(context: &Context, by: &Asker, request: Request) -> Result<WrittenBody, Problem> {
    match context.door.request(by.clone(), request).await? {
        Reply::Written(Written { hlc, durable_on, wanted, warnings }) => {
            let durable_on = context.door.names(durable_on).await?;
            Ok(WrittenBody { hlc, durable_on, wanted, warnings })
        }
        other => Err(fault(&other)),
    }
}

async fn new_token(context: &Arc<Context>, by: &Asker, body: TokenBody) -> Result<Answer, Problem> {
    let (credentials, me) = (context.net.credentials(), context.me);
    let created = clock::wall();
    let expires = created.plus(Duration::from_secs(body.ttl_s));
    if body.ttl_s == 0 || body.label.len() > 200 {
        let text = "a token needs a lifetime above 0 s and a label of at most 200 bytes";
        return Err(problem(ProblemKind::BadRequest, text.into()));
    }
    let token = JoinToken::generate(credentials.cluster, credentials.authority.fingerprint(), me, expires)
        .map_err(|e| problem(ProblemKind::Unavailable, e.to_string()))?;
    let secret_hash = token.secret_hash();
    let kept = Token { id: token.id, secret_hash, issuer: me, label: body.label, created, expires, uses: body.uses };
    match context.door.request(by.clone(), Request::CreateToken(kept)).await? {
        Reply::Written(_) => {
            let text = token.to_text();
            let join = format!("DUNLIN_TOKEN={} dunlin agent --join {}", *text, context.at);
            let id = format!("{:016x}", token.id.0);
            json(StatusCode::CREATED, &NewToken { id, token: text.to_string(), expires_ms: expires.0, join })
        }
        other => Err(fault(&other)),
    }
}

async fn events(context: &Arc<Context>, follow: bool) -> Result<Answer, Problem> {
    let (kept, coming) = context.door.events().await?;
    if !follow {
        return Ok(document(StatusCode::OK, format!("[{}]", kept.join(",")).into()));
    }
    let before = stream::iter(kept).map(|line| format!("data: {line}\n\n"));
    let after = stream::unfold(coming, |mut coming| async {
        let text = match tokio::time::timeout(HEARTBEAT, coming.recv()).await {
            Ok(Ok(line)) => format!("data: {line}\n\n"),
            Ok(Err(RecvError::Lagged(missed))) => format!(": {missed} events missed\n\n"),
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => ": still here\n\n".to_owned(),
        };
        Some((text, coming))
    });
    let frames = before.chain(after).map(|text| Ok(Frame::data(Bytes::from(text))));
    Ok(streaming("text/event-stream", UnsyncBoxBody::new(StreamBody::new(frames))))
}

async fn logs(context: &Arc<Context>, query: &Query) -> Result<Answer, Problem> {
    let replica = query
        .text("replica")
        .ok_or_else(|| problem(ProblemKind::BadRequest, "say which replica: logs?replica=shop/web.1".into()))?;
    let tail = query.number("tail")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let part = Part { follow: query.flag("follow")?, tail };
    let at = context.door.locate(replica.to_owned()).await?;
    let output = relay::logs(context.me, &context.net, &context.drivers, at, part).await?;
    let frames = stream::unfold(output, |mut output| async { output.recv().await.map(|piece| (piece, output)) });
    let frames = frames.map(|piece| Ok(Frame::data(piece)));
    Ok(streaming("application/octet-stream", UnsyncBoxBody::new(StreamBody::new(frames))))
}

/// The query of a URI.
struct Query(BTreeMap<String, String>);

impl Query {
    fn of(uri: &Uri) -> Result<Self, Problem> {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            Some((decode(key)?, decode(value)?))
        });
        decoded
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| problem(ProblemKind::BadRequest, "the query is not percent-encoded UTF-8".into()))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Problem> {
        let parse = |text: &str| {
            text.parse().map_err(|_| problem(ProblemKind::BadRequest, format!("{key}={text} is no number")))
        };
        self.text(key).map(parse).transpose()
    }

    fn flag(&self, key: &str) -> Result<bool, Problem> {
        match self.text(key) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(problem(ProblemKind::BadRequest, format!("{key}={other} is neither true nor false"))),
        }
    }
}

/// Percent-decoding (RFC 3986 section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

async fn collect<B>(body: B) -> Result<Vec<u8>, Problem>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bad = |text: String| problem(ProblemKind::BadRequest, text);
    let read = tokio::time::timeout(BODY, Limited::new(body, MAX_BODY).collect()).await;
    let read = read.map_err(|_| problem(ProblemKind::TimedOut, "the request's body did not arrive in time".into()))?;
    let collected = read.map_err(|e| bad(format!("the request's body: {e}; at most {MAX_BODY} bytes are taken")))?;
    Ok(collected.to_bytes().to_vec())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| problem(ProblemKind::BadRequest, format!("the request's body: {e}")))
}

pub(super) fn stack_name(text: &str) -> Result<StackName, Problem> {
    StackName::new(text).map_err(|e| problem(ProblemKind::BadRequest, format!("the stack's name '{text}': {e}")))
}

pub(super) fn within(timeout_ms: u64) -> Duration {
    Duration::from_millis(timeout_ms).min(MAX_WAIT)
}

pub(super) fn problem(kind: ProblemKind, text: String) -> Problem {
    Problem { kind, text }
}

fn unknown(method: &Method, path: &str) -> Problem {
    problem(
        ProblemKind::NotFound,
        format!("there is nothing to {method} at {path}; GET /v1/openapi.json lists what there is"),
    )
}

fn fault(reply: &Reply) -> Problem {
    tracing::error!(?reply, "the core answered something else than what was asked");
    problem(ProblemKind::Unavailable, "the agent has a fault; its log says more".into())
}

pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Answer, Problem> {
    let text = serde_json::to_vec(value).map_err(|e| problem(ProblemKind::Unavailable, e.to_string()))?;
    Ok(document(status, text.into()))
}

fn document(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = streaming("application/json", UnsyncBoxBody::new(Full::new(body)));
    *answer.status_mut() = status;
    answer
}

fn streaming(kind: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

/// The error document: what was wrong, and after the last semicolon what to do about it.
fn refuse(problem: &Problem) -> Answer {
    let (error, remedy) = match problem.text.rsplit_once("; ") {
        Some((error, remedy)) => (error.to_owned(), remedy.to_owned()),
        None => (problem.text.clone(), String::new()),
    };
    let kind = match problem.kind {
        ProblemKind::BadRequest => "bad-request",
        ProblemKind::NotFound => "not-found",
        ProblemKind::Denied => "denied",
        ProblemKind::TooMany => "too-many",
        ProblemKind::Unavailable => "unavailable",
        ProblemKind::TimedOut => "timed-out",
    };
    let body = serde_json::to_vec(&ErrorBody { error, kind: kind.into(), remedy }).unwrap_or_default();
    let status = StatusCode::from_u16(status_of(problem.kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = document(status, body.into());
    if problem.kind == ProblemKind::TooMany {
        answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_checked() {
        let uri: Uri = "/v1/logs?replica=shop%2Fweb.1&follow&tail=5".parse().unwrap();
        let query = Query::of(&uri).unwrap();
        assert_eq!(query.text("replica"), Some("shop/web.1"));
        assert!(query.flag("follow").unwrap());
        assert_eq!(query.number("tail").unwrap(), Some(5));
        assert!(Query::of(&"/v1/logs?tail=%zz".parse().unwrap()).is_err());
        let uri: Uri = "/v1/logs?tail=many&follow=perhaps".parse().unwrap();
        let query = Query::of(&uri).unwrap();
        assert!(query.number("tail").is_err() && query.flag("follow").is_err());
    }

    #[test]
    fn an_error_says_what_and_what_to_do() {
        let refused = refuse(&problem(ProblemKind::NotFound, "there is no service x; dunlin services".into()));
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert!(refused.headers().get(header::RETRY_AFTER).is_none());
        let refused = refuse(&problem(ProblemKind::TooMany, "too many writes; try again in 1 s".into()));
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers().get(header::RETRY_AFTER).is_some());
    }
}
