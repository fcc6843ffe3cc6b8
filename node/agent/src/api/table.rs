//! Every route of the API, once: requests are dispatched by this table, and the OpenAPI document is made of it, so that the
//! two cannot drift apart.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::call::Listing;

/// What answers a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    List(Listing),
    Doctor,
    ResolveName,
    Zone,
    Events,
    Logs,
    OpenApi,
    Explain,
    Plan,
    WhatIf,
    Deploy,
    Add,
    Drop,
    Scale,
    Rollout,
    Remove,
    Resolve,
    OrderNode,
    RemoveNode,
    RotateAuthority,
    NewToken,
    RemoveToken,
}

/// Where Prometheus looks; all else is under `/v1`.
pub(super) const METRICS: &str = "/metrics";
/// What the rest of a path stands for in the table.
const ID: &str = "{id}";

/// Method, path, answer.
const ROUTES: &[(Method, &str, Route)] = &[
    (Method::GET, METRICS, Route::List(Listing::Metrics)),
    (Method::GET, "/v1/allocations", Route::List(Listing::Allocations)),
    (Method::POST, "/v1/ca/rotate", Route::RotateAuthority),
    (Method::GET, "/v1/conflicts", Route::List(Listing::Conflicts)),
    (Method::POST, "/v1/conflicts", Route::Resolve),
    (Method::POST, "/v1/deploy", Route::Deploy),
    (Method::GET, "/v1/dns", Route::ResolveName),
    (Method::GET, "/v1/dns/zone", Route::Zone),
    (Method::GET, "/v1/doctor", Route::Doctor),
    (Method::GET, "/v1/events", Route::Events),
    (Method::GET, "/v1/explain", Route::Explain),
    (Method::GET, "/v1/flock", Route::List(Listing::Flock)),
    (Method::GET, "/v1/logs", Route::Logs),
    (Method::GET, "/v1/nodes", Route::List(Listing::Nodes)),
    (Method::POST, "/v1/nodes/order", Route::OrderNode),
    (Method::POST, "/v1/nodes/remove", Route::RemoveNode),
    (Method::GET, "/v1/openapi.json", Route::OpenApi),
    (Method::POST, "/v1/plan", Route::Plan),
    (Method::POST, "/v1/remove", Route::Remove),
    (Method::GET, "/v1/rollouts", Route::List(Listing::Rollouts)),
    (Method::POST, "/v1/rollouts", Route::Rollout),
    (Method::POST, "/v1/scale", Route::Scale),
    (Method::GET, "/v1/services", Route::List(Listing::Services)),
    (Method::POST, "/v1/services", Route::Add),
    (Method::POST, "/v1/services/remove", Route::Drop),
    (Method::GET, "/v1/stacks", Route::List(Listing::Stacks)),
    (Method::GET, "/v1/status", Route::List(Listing::Status)),
    (Method::GET, "/v1/tokens", Route::List(Listing::Tokens)),
    (Method::POST, "/v1/tokens", Route::NewToken),
    (Method::DELETE, "/v1/tokens/{id}", Route::RemoveToken),
    (Method::POST, "/v1/whatif", Route::WhatIf),
];

impl Route {
    /// The route of a request, and what stands for `{id}` in its path.
    pub(super) fn of<'a>(method: &Method, path: &'a str) -> Option<(Self, &'a str)> {
        let path = path.trim_end_matches('/');
        let fits = |(verb, pattern, route): &(Method, &str, Self)| {
            let rest = match pattern.strip_suffix(ID) {
                Some(before) => path.strip_prefix(before).filter(|id| !id.is_empty() && !id.contains('/'))?,
                None => (path == *pattern).then_some("")?,
            };
            (verb == method).then_some((*route, rest))
        };
        ROUTES.iter().find_map(fits)
    }

    const fn about(self) -> &'static str {
        match self {
            Self::List(Listing::Nodes) => "Nodes, their state and their room",
            Self::List(Listing::Services) => "Services in force",
            Self::List(Listing::Allocations) => "Allocations, and replicas that wait for one",
            Self::List(Listing::Stacks) => "Stacks",
            Self::List(Listing::Status) => "How the node that answers sees itself and the flock",
            Self::List(Listing::Tokens) => "Join tokens, without their secrets",
            Self::List(Listing::Conflicts) => "Concurrent writes that differ",
            Self::List(Listing::Rollouts) => "How far services are on the way to their revisions, and which are kept",
            Self::List(Listing::Flock) => {
                "Nodes and services as a simulator takes them, without programs and environments"
            }
            Self::List(Listing::Metrics) => "Figures for Prometheus, as text",
            Self::Doctor => "What goes wrong here, with verdicts and remedies",
            Self::ResolveName => "What stands at a DNS name, and which allocations are left out of it and why",
            Self::Zone => "All names as a zone file",
            Self::Events => "What happened, as the node saw it; with follow=true as server-sent events",
            Self::Logs => "Output of a replica, wherever it runs",
            Self::OpenApi => "This document",
            Self::Explain => "Why a replica is where it is, and why not elsewhere",
            Self::Plan => "What a deploy would do; nothing changes",
            Self::WhatIf => "What would move if nodes went, came or were labelled otherwise; nothing changes",
            Self::Deploy => "Run a stack; services that it had and the body does not name are removed",
            Self::Add => "Run one service beside what its stack has already",
            Self::Drop => "Stop one service of a stack and forget it",
            Self::Scale => "Change how many replicas a service has",
            Self::Rollout => "Pause, resume, promote or undo a rollout",
            Self::Remove => "Stop a stack and forget it",
            Self::Resolve => "Settle a conflict: one version stays",
            Self::OrderNode => "Drain or cordon a node, give it labels or taints, or take that back",
            Self::RemoveNode => "Remove a node for good",
            Self::RotateAuthority => "Replace the authority: all nodes move to a new one",
            Self::NewToken => "Make a join token; the answer is the only time that it is shown",
            Self::RemoveToken => "Make a join token worthless",
        }
    }

    /// Parameters of the query: name, type, whether it must be given.
    const fn query(self) -> &'static [(&'static str, &'static str, bool)] {
        match self {
            Self::List(Listing::Metrics) | Self::OpenApi => &[],
            Self::List(_) | Self::Doctor => &[("at_least", "integer", false)],
            Self::ResolveName => &[("name", "string", true)],
            Self::Zone => &[],
            Self::Events => &[("follow", "boolean", false)],
            Self::Logs => &[("replica", "string", true), ("follow", "boolean", false), ("tail", "integer", false)],
            Self::Explain => &[("replica", "string", true)],
            Self::Deploy
            | Self::Add
            | Self::Drop
            | Self::Plan
            | Self::WhatIf
            | Self::Scale
            | Self::Rollout
            | Self::Remove
            | Self::Resolve
            | Self::OrderNode
            | Self::RemoveNode => &[],
            Self::NewToken | Self::RemoveToken | Self::RotateAuthority => &[],
        }
    }

    /// Fields of the body: name, type, whether it must be given. None: there is no body.
    const fn body(self) -> Option<&'static [(&'static str, &'static str, bool)]> {
        Some(match self {
            Self::Plan => &[("stack", "string", true), ("services", "object", true)],
            Self::WhatIf => &[("changes", "array", true)],
            Self::Deploy => &[
                ("stack", "string", true),
                ("services", "object", true),
                ("waves", "object", false),
                ("policies", "object", false),
                ("ack", "", false),
                ("timeout_ms", "integer", false),
            ],
            Self::Add => &[
                ("stack", "string", true),
                ("name", "string", true),
                ("specification", "object", true),
                ("ack", "", false),
                ("timeout_ms", "integer", false),
            ],
            Self::Drop => &[("service", "string", true), ("ack", "", false), ("timeout_ms", "integer", false)],
            Self::Scale => &[
                ("service", "string", true),
                ("replicas", "integer", true),
                ("ack", "", false),
                ("timeout_ms", "integer", false),
            ],
            Self::Rollout => &[
                ("service", "string", true),
                ("order", "object", true),
                ("ack", "", false),
                ("timeout_ms", "integer", false),
            ],
            Self::Remove => &[("stack", "string", true), ("ack", "", false), ("timeout_ms", "integer", false)],
            Self::Resolve => &[
                ("what", "string", true),
                ("keep", "string", true),
                ("ack", "", false),
                ("timeout_ms", "integer", false),
            ],
            Self::OrderNode => &[
                ("node", "string", true),
                ("order", "string", true),
                ("deadline_ms", "integer", false),
                ("set", "array", false),
                ("remove", "array", false),
                ("ack", "", false),
                ("timeout_ms", "integer", false),
            ],
            Self::RemoveNode => &[
                ("node", "string", true),
                ("compromised", "boolean", false),
                ("ack", "", false),
                ("timeout_ms", "integer", false),
            ],
            Self::NewToken => &[("label", "string", false), ("ttl_s", "integer", true), ("uses", "integer", false)],
            Self::List(_)
            | Self::Doctor
            | Self::ResolveName
            | Self::Zone
            | Self::Events
            | Self::Explain
            | Self::Logs
            | Self::OpenApi
            | Self::RemoveToken
            | Self::RotateAuthority => {
                return None;
            }
        })
    }

    const fn media(self) -> &'static str {
        match self {
            Self::List(Listing::Metrics) => "text/plain",
            Self::Zone => "text/dns",
            Self::Logs => "application/octet-stream",
            _ => "application/json",
        }
    }
}

/// The document of OpenAPI 3.1.
pub(super) fn openapi() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, route) in ROUTES {
        let entry = paths.entry(*path).or_insert_with(|| json!({}));
        if let Value::Object(verbs) = entry {
            verbs.insert(method.as_str().to_lowercase(), operation(path, *route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "dunlin", "version": env!("CARGO_PKG_VERSION"),
            "description": "Served on the unix socket in the agent's data directory. Field names of documents: the book's page `JSON documents`."},
        "paths": paths,
        "components": {"schemas": {
            "Ack": {"description": "How many nodes must have the write on disk: one more where there is one (default), all, or so many in sum.",
                "oneOf": [{"enum": ["default", "all"]}, {"type": "object", "properties": {"nodes": {"type": "integer"}}}]},
            "Error": object(&[("error", "string", true), ("kind", "string", true), ("remedy", "string", true)]),
        }},
    })
}

fn operation(path: &str, route: Route) -> Value {
    let parameter = |(name, kind, required): &(&str, &str, bool)| json!({"name": name, "in": "query", "required": required, "schema": {"type": kind}});
    let mut parameters: Vec<Value> = route.query().iter().map(parameter).collect();
    if path.ends_with(ID) {
        parameters.push(json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    let error = json!({"description": "Refused: what was wrong, and what to do",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}});
    let status = if route == Route::NewToken { "201" } else { "200" };
    let mut operation = json!({
        "summary": route.about(),
        "parameters": parameters,
        "responses": {"default": error, status: {"description": "Done", "content": {route.media(): {}}}},
    });
    if let (Some(fields), Value::Object(parts)) = (route.body(), &mut operation) {
        let body = json!({"required": true, "content": {"application/json": {"schema": object(fields)}}});
        parts.insert("requestBody".to_owned(), body);
    }
    operation
}

/// A schema of named fields; one without a type is an [`Ack`](dunlin_core::face::Ack).
fn object(fields: &[(&str, &str, bool)]) -> Value {
    let schema = |kind: &str| {
        if kind.is_empty() { json!({"$ref": "#/components/schemas/Ack"}) } else { json!({"type": kind}) }
    };
    let properties: Map<String, Value> =
        fields.iter().map(|(name, kind, _)| ((*name).to_owned(), schema(kind))).collect();
    let required: Vec<&str> = fields.iter().filter(|(.., required)| *required).map(|(name, ..)| *name).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dunlin_core::face::Ack;
    use serde::Serialize;

    use super::*;
    use crate::api::types::{
        DeployBody, DropBody, OrderNodeBody, OrderWord, RemoveBody, RemoveNodeBody, ResolveBody, RolloutBody,
        RolloutWord, ScaleBody, TokenBody,
    };

    #[test]
    fn a_request_finds_its_route_by_method_and_path() {
        assert_eq!(Route::of(&Method::GET, "/v1/nodes/"), Some((Route::List(Listing::Nodes), "")));
        assert_eq!(Route::of(&Method::POST, "/v1/conflicts"), Some((Route::Resolve, "")));
        assert_eq!(Route::of(&Method::DELETE, "/v1/tokens/00ff"), Some((Route::RemoveToken, "00ff")));
        let not = [(Method::POST, "/v1/nodes"), (Method::GET, "/nodes"), (Method::DELETE, "/v1/tokens/")];
        assert!(not.iter().all(|(method, path)| Route::of(method, path).is_none()));
    }

    #[test]
    fn the_document_has_every_route_with_its_parameters() {
        let document = openapi();
        for (method, path, route) in ROUTES {
            let operation = &document["paths"][path][method.as_str().to_lowercase()];
            assert_eq!(operation["summary"], route.about(), "{path}");
            assert_eq!(Route::of(method, &path.replace(ID, "7")).map(|(found, _)| found), Some(*route), "{path}");
        }
        assert_eq!(document["paths"]["/v1/logs"]["get"]["parameters"][0]["name"], "replica");
    }

    fn fields<T: Serialize>(body: &T) -> Vec<String> {
        let value = serde_json::to_value(body).expect("a body");
        value.as_object().expect("an object").keys().cloned().collect()
    }

    #[test]
    fn the_document_names_the_fields_that_bodies_have() {
        let (ack, timeout_ms) = (Ack::Default, 1);
        let bodies = [
            (
                Route::Deploy,
                fields(&DeployBody {
                    stack: String::new(),
                    services: BTreeMap::new(),
                    policies: BTreeMap::new(),
                    waves: None,
                    ack,
                    timeout_ms,
                }),
            ),
            (Route::Drop, fields(&DropBody { service: String::new(), ack, timeout_ms })),
            (Route::Scale, fields(&ScaleBody { service: String::new(), replicas: 1, ack, timeout_ms })),
            (
                Route::Rollout,
                fields(&RolloutBody { service: String::new(), order: RolloutWord::Pause, ack, timeout_ms }),
            ),
            (Route::Remove, fields(&RemoveBody { stack: String::new(), ack, timeout_ms })),
            (Route::Resolve, fields(&ResolveBody { what: String::new(), keep: String::new(), ack, timeout_ms })),
            (Route::RemoveNode, fields(&RemoveNodeBody { node: String::new(), compromised: false, ack, timeout_ms })),
            (
                Route::OrderNode,
                fields(&OrderNodeBody {
                    node: String::new(),
                    order: OrderWord::Drain,
                    deadline_ms: None,
                    set: Vec::new(),
                    remove: Vec::new(),
                    ack,
                    timeout_ms,
                }),
            ),
            (Route::NewToken, fields(&TokenBody { label: String::new(), ttl_s: 1, uses: None })),
        ];
        for (route, mut expected) in bodies {
            let mut named: Vec<String> =
                route.body().expect("a body").iter().map(|(name, ..)| (*name).to_owned()).collect();
            named.sort();
            expected.sort();
            assert_eq!(named, expected, "{route:?}");
        }
    }
}
