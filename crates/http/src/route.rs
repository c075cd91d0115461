//! A surface's routes as a table, with what the pipeline must know of each before its handler runs.

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::response::Response;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

type HandlerService = BoxCloneSyncService<Request, Response, Infallible>;

/// One handler behind one method of one path.
pub struct Endpoint<S> {
    method: Method,
    make: Box<dyn FnOnce(S) -> HandlerService + Send>,
    traits: Traits,
}

impl<S> fmt::Debug for Endpoint<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("method", &self.method)
            .field("traits", &self.traits)
            .finish_non_exhaustive()
    }
}

/// What the pipeline applies before and around a handler.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Needs no credentials.
    pub public: bool,
    /// Which rate limits count it, e.g. `ingest`, `query`, `control`.
    pub class: &'static str,
    /// Replaces the surface's limit.
    pub body_limit_bytes: Option<u64>,
    /// Replaces the server's time limit.
    pub time_limit: Option<Duration>,
    /// Replaces the server's longest time for a whole body.
    pub body_time_limit: Option<Duration>,
    /// Honours the `Idempotency-Key` header.
    pub idempotent: bool,
}

impl<S> Endpoint<S> {
    #[must_use]
    pub fn public(mut self) -> Self {
        self.traits.public = true;
        self
    }

    #[must_use]
    pub fn class(mut self, class: &'static str) -> Self {
        self.traits.class = class;
        self
    }

    #[must_use]
    pub fn body_limit_bytes(mut self, limit: u64) -> Self {
        self.traits.body_limit_bytes = Some(limit);
        self
    }

    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.traits.time_limit = Some(limit);
        self
    }

    #[must_use]
    pub fn body_time_limit(mut self, limit: Duration) -> Self {
        self.traits.body_time_limit = Some(limit);
        self
    }

    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.traits.idempotent = true;
        self
    }
}

/// An endpoint for any method.
pub fn endpoint<H, T, S>(method: Method, handler: H) -> Endpoint<S>
where
    H: Handler<T, S> + Sync,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    Endpoint {
        method,
        make: Box::new(|state| BoxCloneSyncService::new(handler.with_state(state))),
        traits: Traits {
            public: false,
            class: "default",
            body_limit_bytes: None,
            time_limit: None,
            body_time_limit: None,
            idempotent: false,
        },
    }
}

macro_rules! shorthand {
    ($($name:ident => $method:ident),+) => {$(
        #[doc = concat!("An endpoint for ", stringify!($method), ".")]
        pub fn $name<H, T, S>(handler: H) -> Endpoint<S>
        where
            H: Handler<T, S> + Sync,
            T: 'static,
            S: Clone + Send + Sync + 'static,
        {
            endpoint(Method::$method, handler)
        }
    )+};
}

shorthand!(get => GET, post => POST, put => PUT, patch => PATCH, delete => DELETE);

/// All routes of one surface, below its prefix.
pub struct Routes {
    table: matchit::Router<usize>,
    routes: Vec<Route>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.template, self.allowed().join(" "))
    }
}

/// One path template and its methods.
pub struct Route {
    pub template: &'static str,
    methods: Vec<(Method, Traits, HandlerService)>,
}

/// A handler ready to be called, with its traits.
pub(crate) struct Target {
    pub(crate) traits: Traits,
    service: HandlerService,
}

impl Target {
    pub(crate) async fn call(self, request: Request) -> Response {
        match self.service.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Builds [`Routes`] around the state that all handlers of a surface share.
#[derive(Debug)]
pub struct RouteTable<S> {
    state: S,
    routes: Routes,
}

impl<S: Clone> RouteTable<S> {
    pub fn new(state: S) -> Self {
        Self {
            state,
            routes: Routes {
                table: matchit::Router::new(),
                routes: Vec::new(),
            },
        }
    }

    /// Adds a path such as `/meters/{name}` with its endpoints.
    ///
    /// # Panics
    /// If two templates collide. The table is built once at start-up from literals, and every test starts it.
    #[must_use]
    pub fn route<const N: usize>(
        mut self,
        template: &'static str,
        endpoints: [Endpoint<S>; N],
    ) -> Self {
        let methods = endpoints
            .into_iter()
            .map(|endpoint| {
                let service = (endpoint.make)(self.state.clone());
                (endpoint.method, endpoint.traits, service)
            })
            .collect();
        let inserted = self.routes.table.insert(template, self.routes.routes.len());
        assert!(
            inserted.is_ok(),
            "the route {template} collides with another"
        );
        self.routes.routes.push(Route { template, methods });
        self
    }

    pub fn build(self) -> Routes {
        self.routes
    }
}

impl Routes {
    /// The route of a path and its raw parameters.
    pub(crate) fn find(&self, path: &str) -> Option<(&Route, Vec<(String, String)>)> {
        let found = self.table.at(path).ok()?;
        let params = found
            .params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Some((self.routes.get(*found.value)?, params))
    }

    /// Every route as (template, methods), HEAD apart, for documentation and tests.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, Vec<String>)> {
        self.routes.iter().map(|route| {
            let methods = route.methods.iter().map(|(method, ..)| method.to_string());
            (route.template, methods.collect())
        })
    }
}

impl Route {
    pub(crate) fn target(&self, method: &Method) -> Option<Target> {
        // HEAD is GET whose body the server leaves out (RFC 9110, 9.3.2).
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        self.methods
            .iter()
            .find(|(known, ..)| known == method)
            .map(|(_, traits, service)| Target {
                traits: *traits,
                service: service.clone(),
            })
    }

    /// The methods that are answered here.
    pub(crate) fn allowed(&self) -> Vec<String> {
        let head = self
            .methods
            .iter()
            .any(|(method, ..)| method == Method::GET);
        let methods = self.methods.iter().map(|(method, ..)| method);
        methods
            .chain(head.then_some(&Method::HEAD))
            .map(ToString::to_string)
            .collect()
    }
}
