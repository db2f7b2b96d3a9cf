//! A request's messages, all of them or an error.
//!
//! tonic takes the cancellation of a request by its client for the end of its messages. Who adds
//! the rows of a request to a table must know one from the other.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

/// A service whose requests end with an error where the client broke them off.
#[derive(Clone)]
pub(super) struct Whole<S>(pub(super) S);

impl<S> Service<Request<Body>> for Whole<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request.map(|body| Body::new(WholeBody(body))))
    }
}

impl<S: NamedService> NamedService for Whole<S> {
    const NAME: &'static str = S::NAME;
}

struct WholeBody(Body);

impl http_body::Body for WholeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(|status| {
            Status::aborted(format!("the client broke the request off: {status}"))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tonic::Code;

    /// One frame, and then the client goes.
    struct Broken(bool);

    impl http_body::Body for Broken {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(Some(match std::mem::replace(&mut self.0, true) {
                false => Ok(Frame::data(Bytes::from_static(b"rows"))),
                true => Err(Status::cancelled("reset")),
            }))
        }
    }

    #[tokio::test]
    async fn a_request_that_was_broken_off_does_not_end_like_others() {
        let mut body = WholeBody(Body::new(Broken(false)));
        let mut next = || {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            http_body::Body::poll_frame(Pin::new(&mut body), &mut cx)
        };
        assert!(matches!(next(), Poll::Ready(Some(Ok(_)))));
        let Poll::Ready(Some(Err(status))) = next() else {
            unreachable!("it ended");
        };
        // tonic would take `Cancelled` for the end.
        assert_eq!(status.code(), Code::Aborted);
    }
}
