//! Routes with their descriptions. One list makes the router and the document of the interface (OpenAPI 3.1), so
//! neither has a request that the other lacks.

use std::collections::BTreeMap;

use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::routing::{MethodFilter, on};
use serde_json::json;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, ResponsesBuilder,
    SecurityRequirement,
};
use utoipa::{IntoParams, ToSchema};

use super::{Gate, Refusal, sign_in};
use crate::access::Role;

/// By status code: what it means, and the content by its kind.
type Answers = BTreeMap<u16, (String, Vec<(String, Content)>)>;
type Schemas = Vec<(String, RefOr<Schema>)>;

/// What a request is for, what it takes, and what it is answered with.
#[derive(Clone)]
pub(crate) struct About {
    operation: Operation,
    answers: Answers,
    schemas: Schemas,
}

/// A reference to a type's schema, which joins the others.
fn schema<T: ToSchema>(schemas: &mut Schemas) -> Ref {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
    Ref::from_schema_name(T::name())
}

/// Bytes that no schema describes.
fn bytes() -> Content {
    Content::new(None::<RefOr<Schema>>)
}

impl About {
    pub fn new(summary: &str) -> About {
        let operation = OperationBuilder::new().summary(Some(summary)).build();
        About { operation, answers: BTreeMap::new(), schemas: Vec::new() }
    }

    /// Adds the keys of the query.
    pub fn query<Q: IntoParams>(mut self) -> Self {
        let keys = Q::into_params(|| Some(ParameterIn::Query));
        self.operation = OperationBuilder::from(self.operation).parameters(Some(keys)).build();
        self
    }

    /// The body is JSON.
    pub fn takes<T: ToSchema>(mut self) -> Self {
        let content = Content::new(Some(schema::<T>(&mut self.schemas)));
        let body = RequestBodyBuilder::new().content("application/json", content);
        self.taking(body)
    }

    /// The body is a file of one of these kinds.
    pub fn takes_file(self, kinds: &[&str]) -> Self {
        let body = kinds.iter().fold(RequestBodyBuilder::new(), |body, kind| body.content(*kind, bytes()));
        self.taking(body)
    }

    fn taking(mut self, body: RequestBodyBuilder) -> Self {
        let operation = OperationBuilder::from(self.operation);
        self.operation = operation.request_body(Some(body.required(Some(Required::True)).build())).build();
        self
    }

    /// The answer to a request that succeeds is JSON.
    pub fn gives<T: ToSchema>(self) -> Self {
        self.answers::<T>(StatusCode::OK, "Done")
    }

    /// The answer to a request that succeeds is a file of this kind.
    pub fn gives_file(self, kind: &str) -> Self {
        self.with_answer(StatusCode::OK, "Done", kind, bytes())
    }

    /// The answer with this code is JSON.
    pub fn answers<T: ToSchema>(mut self, code: StatusCode, what: &str) -> Self {
        let content = Content::new(Some(schema::<T>(&mut self.schemas)));
        self.with_answer(code, what, "application/json", content)
    }

    /// A refusal, and when it is given.
    pub fn refuses(self, code: StatusCode, when: &str) -> Self {
        self.answers::<Refusal>(code, when)
    }

    fn with_answer(mut self, code: StatusCode, what: &str, kind: &str, content: Content) -> Self {
        let (text, contents) = self.answers.entry(code.as_u16()).or_default();
        if !text.contains(what) {
            let gap = if text.is_empty() { "" } else { ". " };
            text.extend([gap, what]);
        }
        if !contents.iter().any(|(known, _)| known == kind) {
            contents.push((kind.to_owned(), content));
        }
        self
    }
}

#[derive(Clone)]
struct Documented {
    method: HttpMethod,
    path: &'static str,
    about: About,
}

/// Routes that are part of the interface.
#[derive(Clone)]
pub(crate) struct Api<S> {
    router: Router<S>,
    documented: Vec<Documented>,
}

impl<S: Clone + Send + Sync + 'static> Default for Api<S> {
    fn default() -> Self {
        Api { router: Router::new(), documented: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H, about: About) -> Self {
        self.on(HttpMethod::Get, MethodFilter::GET, path, handler, about)
    }

    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H, about: About) -> Self {
        self.on(HttpMethod::Post, MethodFilter::POST, path, handler, about)
    }

    pub fn delete<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H, about: About) -> Self {
        self.on(HttpMethod::Delete, MethodFilter::DELETE, path, handler, about)
    }

    #[cfg(feature = "workshop")]
    pub fn put<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H, about: About) -> Self {
        self.on(HttpMethod::Put, MethodFilter::PUT, path, handler, about)
    }

    fn on<H: Handler<T, S>, T: 'static>(
        mut self,
        method: HttpMethod,
        filter: MethodFilter,
        path: &'static str,
        handler: H,
        about: About,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.documented.push(Documented { method, path, about });
        self
    }

    pub fn merge(mut self, other: Api<S>) -> Self {
        self.router = self.router.merge(other.router);
        self.documented.extend(other.documented);
        self
    }

    /// Gives the handlers their state.
    pub fn with_state<T>(self, state: S) -> Api<T> {
        Api { router: self.router.with_state(state), documented: self.documented }
    }

    /// Changes the router, such as by a layer around every handler.
    pub fn routed(self, change: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        Api { router: change(self.router), documented: self.documented }
    }
}

/// What a request needs.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// A role to look.
    Look(Role),
    /// A role to change something.
    Change(Role),
}

/// The document that grows with the routes. It is written when somebody asks for it: the page starts without it.
#[derive(Default)]
pub(super) struct Document(Vec<(Needs, Documented)>);

impl Document {
    /// Adds the routes of one kind. Returns their router.
    pub fn add<S>(&mut self, needs: Needs, api: Api<S>) -> Router<S> {
        self.0.extend(api.documented.into_iter().map(|documented| (needs, documented)));
        api.router
    }

    /// The document as JSON.
    pub fn text(&self, gate: &Gate, title: &str) -> String {
        let (mut paths, mut schemas) = (Paths::new(), BTreeMap::new());
        for (needs, Documented { method, path, about }) in &self.0 {
            let About { operation, answers, schemas: own } = needs.told(about.clone());
            for (name, schema) in own {
                debug_assert!(
                    schemas.get(&name).is_none_or(|known| *known == schema),
                    "two types are called {name} in the interface"
                );
                schemas.insert(name, schema);
            }
            let operation = needs.operation(gate, operation, answers);
            let operation = operation.operation_id(Some(name_of(method, path)));
            let operation = places(path).fold(operation, |operation, place| {
                let place = ParameterBuilder::new().name(place).parameter_in(ParameterIn::Path);
                let text = ObjectBuilder::new().schema_type(Type::String);
                operation.parameter(place.required(Required::True).schema(Some(text)).build())
            });
            paths.add_path_operation(path, vec![method.clone()], operation.build());
        }
        let session = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            sign_in::COOKIE,
            "Of POST /api/session: what the account's role may.",
        )));
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let token = token.description(Some("The token of the token file: an engineer.")).build();
        let components = ComponentsBuilder::new()
            .schemas_from_iter(schemas)
            .security_scheme(SESSION, session)
            .security_scheme(TOKEN, SecurityScheme::Http(token))
            .build();
        let about = "Requests that change something need the header X-Weakrest: 1, or Content-Type: \
                     application/json. x-role is the role that a request needs: view, operate or engineer; each may \
                     what those before it may.";
        let info =
            InfoBuilder::new().title(title).version(env!("CARGO_PKG_VERSION")).description(Some(about));
        let document = OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components));
        // Its keys are texts, so it can always be written.
        document.build().to_json().unwrap_or_default()
    }
}

/// The names of the ways to show who asks.
const SESSION: &str = "session";
const TOKEN: &str = "token";

impl Needs {
    fn role(self) -> Option<Role> {
        match self {
            Needs::Nothing => None,
            Needs::Look(role) | Needs::Change(role) => Some(role),
        }
    }

    /// An operation with its answers and its role.
    fn operation(self, gate: &Gate, operation: Operation, answers: Answers) -> OperationBuilder {
        let answers = answers.into_iter().map(|(code, (text, contents))| {
            let answer = ResponseBuilder::new().description(text);
            let add =
                |answer: ResponseBuilder, (kind, content): (String, Content)| answer.content(kind, content);
            (code.to_string(), contents.into_iter().fold(answer, add).build())
        });
        let answers: BTreeMap<String, Response> = answers.collect();
        OperationBuilder::from(operation)
            .responses(ResponsesBuilder::new().responses_from_iter(answers).build())
            .securities(Some(self.securities(gate)))
            .extensions(Some([("x-role", json!(self.role().map(Role::name)))].into_iter().collect()))
    }

    /// How a request shows that it has the role. One of them is enough.
    fn securities(self, gate: &Gate) -> Vec<SecurityRequirement> {
        let Some(role) = self.role() else { return Vec::new() };
        let needs_none = role == Role::View && !gate.is_private;
        let has_none = gate.members.is_none() && gate.token.is_none();
        let mut all = Vec::new();
        all.extend((needs_none || has_none).then(SecurityRequirement::default));
        all.extend(gate.members.as_ref().map(|_| SecurityRequirement::new(SESSION, [role.name()])));
        all.extend(gate.token.as_ref().map(|_| SecurityRequirement::new(TOKEN, [role.name()])));
        all
    }

    /// Adds what is refused before a handler is asked.
    fn told(self, about: About) -> About {
        let about = about
            .refuses(StatusCode::BAD_REQUEST, "The request cannot be read")
            .refuses(StatusCode::FORBIDDEN, "The Host header names another machine")
            .refuses(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large, or of unknown length")
            .refuses(StatusCode::INTERNAL_SERVER_ERROR, "It failed; the text or the service's log says why");
        let Some(role) = self.role() else { return about };
        let about = about
            .refuses(StatusCode::UNAUTHORIZED, "Nobody is signed in, or the token is wrong")
            .refuses(StatusCode::FORBIDDEN, &format!("This needs the role {role}"))
            .refuses(StatusCode::TOO_MANY_REQUESTS, "Too many wrong tokens came from this address");
        let Needs::Change(_) = self else { return about };
        about
            .refuses(StatusCode::FORBIDDEN, "The header is missing that other sites cannot send")
            .refuses(StatusCode::REQUEST_TIMEOUT, "The body came too slowly")
            .refuses(StatusCode::SERVICE_UNAVAILABLE, "Too many large requests at once")
    }
}

/// The names in braces.
fn places(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// The name of an operation, such as `post_teach_answer_kept`.
fn name_of(method: &HttpMethod, path: &str) -> String {
    let method = match method {
        HttpMethod::Get => "get",
        HttpMethod::Put => "put",
        HttpMethod::Delete => "delete",
        _ => "post",
    };
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !matches!(*word, "" | "api"));
    words.fold(method.to_owned(), |name, word| name + "_" + word)
}
