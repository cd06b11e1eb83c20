//! HTTP as a guest without a grant sees it: all of its types are there, and every request is refused.
//!
//! Owns the refusal: an error of `wasi:http` for the guest, and a line in the attempt's log for people. Never opens a
//! connection. (The toolchains of several languages import `wasi:http` whether a handler uses it or not.)

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::add_only_http_to_linker_sync;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, RequestOptions, Scheme};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    Error, RequestOptions as Options, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::inspect::http_grant;
use crate::log::head;
use crate::state::State;

/// The interface that sends, with the version that wasmtime-wasi-http uses.
const OUTGOING: &str = "wasi:http/outgoing-handler@0.2.12";
/// The longest origin that a refusal names.
const ORIGIN_BYTES_MAX: usize = 200;

/// How many bytes a set of headers may hold, and how many of a body may wait to be sent. This is memory of the host
/// that the guest's limit does not count, once for each handle that it may have.
const FIELDS_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: usize = 16 << 10;

/// What `wasi:http` keeps of an attempt.
pub(crate) struct Http {
    ctx: WasiHttpCtx,
    hooks: Refusing,
}

impl Default for Http {
    fn default() -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS_BYTES_MAX);
        Self { ctx, hooks: Refusing }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.hooks, table: &mut self.table, ctx: &mut self.http.ctx }
    }
}

type Params = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);
type Sent = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

/// Links `wasi:http`. Requests are refused before anything of them is read.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    add_only_http_to_linker_sync(linker)?;
    linker.instance(OUTGOING)?.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, State>, (request, options): Params| -> wasmtime::Result<(Sent,)> {
            let state = store.data_mut();
            if let Some(options) = options {
                state.table.delete(options)?;
            }
            let request = state.table.delete(request)?;
            state.log.lock().message("host", &refusal(&request));
            Ok((Err(ErrorCode::HttpRequestDenied),))
        },
    )
}

fn refusal(request: &HostOutgoingRequest) -> String {
    let scheme = if matches!(request.scheme, Some(Scheme::Http)) { "http" } else { "https" };
    let origin = format!("{scheme}://{}", request.authority.as_deref().unwrap_or_default());
    let origin = head(&origin, ORIGIN_BYTES_MAX);
    format!("refused a request to {origin}: `{}` will grant it; this version cannot", http_grant(origin))
}

/// A second refusal, in case a request gets past `link`. None should.
struct Refusing;

/// A response, and the work that continues after it.
type Responded = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Refusing {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<Options>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Responded, Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_BYTES_MAX
    }
}
