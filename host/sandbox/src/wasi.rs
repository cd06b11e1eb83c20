//! WASI 0.2 as a guest sees it: stdout and stderr go to the log, and everything else is inert: no environment, no
//! arguments, no stdin, no network. Folders and clocks are in `files` and `virtual_world`.
//!
//! Owns the context behind it, which is made on first use since most attempts never need it. Never blocks.

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::Result;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, async_trait};

use crate::log::{SharedLog, Stream};
use crate::state::State;

/// How many bytes a guest may write to a stream in one call.
const WRITE_BYTES_MAX: usize = 64 << 10;

impl State {
    /// The context behind WASI. Making it takes microseconds, so it is made on first use.
    pub(crate) fn wasi(&mut self) -> &mut WasiCtx {
        let log = &self.log;
        self.wasi.get_or_insert_with(|| {
            let mut builder = WasiCtxBuilder::new();
            builder
                .allow_blocking_current_thread(true)
                .stdout(ToLog { log: log.clone(), stream: Stream::Stdout })
                .stderr(ToLog { log: log.clone(), stream: Stream::Stderr });
            Box::new(builder.build())
        })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi();
        let Some(ctx) = self.wasi.as_deref_mut() else { unreachable!("it was made in the line before") };
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// Links all of WASI. `files` and `virtual_world` must be linked after it.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)
}

/// A stream whose text goes to the log.
#[derive(Clone)]
struct ToLog {
    log: SharedLog,
    stream: Stream,
}

impl IsTerminal for ToLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for ToLog {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        unreachable!("only WASI 0.3 asks for it, which is not linked")
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for ToLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for ToLog {
    async fn ready(&mut self) {}
}
