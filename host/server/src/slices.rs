//! Large answers, in slices.
//!
//! Owns how much memory large answers may use together, since their readers may be slow. An answer takes room for its
//! size before it is sent, and frees it when it is sent or its connection ends. Never waits for room.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::SLICE_BYTES;

/// A text that is being sent.
struct Slices {
    rest: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A body with this text; none if there is no room for it now. Waiting for room would block other reads.
pub(crate) fn body(text: String, room: Arc<Semaphore>) -> Option<Body> {
    let slices = u32::try_from(text.len().div_ceil(SLICE_BYTES)).ok()?;
    let room = room.try_acquire_many_owned(slices).ok()?;
    Some(Body::new(Slices { rest: Bytes::from(text), _room: room }))
}

impl HttpBody for Slices {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(SLICE_BYTES);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
