//! WASI 0.2 as a guest sees it: stdout and stderr go to the log, granted folders are there read-only, and everything
//! else is inert: no environment, no arguments, no stdin, no network.
//!
//! Owns the context behind it, which most attempts never touch and which is therefore made late. Never blocks on
//! anything but a disk.

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, Host as _, HostDescriptor as _, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsResult, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, async_trait};

use crate::log::{SharedLog, Stream};
use crate::state::State;

/// How much a guest may write to a stream in one call.
const WRITE_BYTES_MAX: usize = 64 << 10;

impl State {
    /// The context behind WASI. Making it takes microseconds, so an attempt that never asks never pays.
    pub(crate) fn wasi(&mut self) -> &mut WasiCtx {
        let (grants, log) = (&self.grants, &self.log);
        self.wasi.get_or_insert_with(|| {
            let mut builder = WasiCtxBuilder::new();
            builder
                .allow_blocking_current_thread(true)
                .stdout(ToLog { log: log.clone(), stream: Stream::Stdout })
                .stderr(ToLog { log: log.clone(), stream: Stream::Stderr });
            for folder in &grants.files {
                if let Err(error) = builder.preopened_dir(&folder.host, &folder.guest, FsPerms::ReadOnly) {
                    let what = format!("cannot open the granted folder {}: {error}", folder.host.display());
                    log.lock().message("host", &what);
                }
            }
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

/// The interface that `link_open` puts its function into, by the version that wasmtime-wasi calls it.
const FILESYSTEM: &str = "wasi:filesystem/types@0.2.12";

/// Links all of WASI but `virtual_world`, which has to be linked after it.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    link_open(linker)
}

type OpenParams = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);

/// Replaces `open-at` by one that opens files and folders alone: to open a named pipe waits until somebody writes to
/// it, where no deadline reaches.
fn link_open(linker: &mut Linker<State>) -> Result<()> {
    linker.instance(FILESYSTEM)?.func_wrap(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, State>, params: OpenParams| {
            let mut files = store.data_mut().filesystem();
            let opened = match open(&mut files, params) {
                Ok(descriptor) => Ok(descriptor),
                Err(error) => Err(files.convert_error_code(error)?),
            };
            Ok((opened,))
        },
    )
}

fn open(
    files: &mut WasiFilesystemCtxView<'_>,
    (folder, how, path, open, flags): OpenParams,
) -> FsResult<Resource<Descriptor>> {
    let borrowed = Resource::new_borrow(folder.rep());
    match files.stat_at(borrowed, how, path.clone())?.type_ {
        DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink => {
            files.open_at(folder, how, path, open, flags)
        }
        _ => Err(ErrorCode::Access.into()),
    }
}

/// A stream that ends in the log.
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
