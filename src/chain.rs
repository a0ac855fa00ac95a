//! A listener's filters in their order, with the union of what they said they need.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use http::HeaderMap;
use weir_filter::{Call, Code, Direction, MessageStep, Needs, Outcome, ResponseHead, Status, Step};

use crate::config::plan::NamedFilter;

/// The filters of a route, built once.
#[derive(Debug)]
pub(crate) struct Chain {
    filters: Vec<Member>,
    needs: Needs,
}

#[derive(Debug)]
struct Member {
    filter: NamedFilter,
    needs: Needs,
}

impl Chain {
    pub(crate) fn new(filters: &[NamedFilter]) -> Chain {
        let filters: Vec<Member> =
            filters.iter().map(|filter| Member { needs: filter.filter.needs(), filter: filter.clone() }).collect();
        let needs = filters.iter().fold(Needs::NONE, |union, member| union | member.needs);
        Chain { filters, needs }
    }

    /// True when there is no filter.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// True when some filter looks at these parts of a call.
    pub(crate) fn needs(&self, needs: Needs) -> bool {
        self.needs.contains(needs)
    }

    /// Runs the request hooks. `reached` counts the filters whose `finish` is due, whatever comes of it.
    ///
    /// # Errors
    ///
    /// The status that a filter replied with.
    pub(crate) async fn request(&self, call: &mut Call, reached: &mut usize) -> Result<(), Status> {
        for member in &self.filters {
            *reached += 1;
            if !member.needs.contains(Needs::REQUEST) {
                continue;
            }
            match member.guard(|| member.filter.filter.request(call))? {
                Step::Next => {}
                Step::Reply(status) => return Err(status),
                Step::Wait(waiting) => CatchPanic { member, inner: waiting }.await??,
            }
        }
        Ok(())
    }

    /// Runs the message hooks of one direction.
    ///
    /// # Errors
    ///
    /// The status that a filter ended the call with.
    pub(crate) async fn message(
        &self,
        call: &Call,
        direction: Direction,
        message: Bytes,
        compressed: bool,
    ) -> Result<Bytes, Status> {
        let needs = match direction {
            Direction::Request => Needs::REQUEST_MESSAGES,
            Direction::Response => Needs::RESPONSE_MESSAGES,
        };
        let mut message = message;
        for at in 0..self.filters.len() {
            let at = if direction == Direction::Request { at } else { self.filters.len() - 1 - at };
            let member = &self.filters[at];
            if !member.needs.contains(needs) {
                continue;
            }
            message = match member.guard(|| member.filter.filter.message(call, direction, message, compressed))? {
                MessageStep::Pass(message) => message,
                MessageStep::Reply(status) => return Err(status),
                MessageStep::Wait(waiting) => CatchPanic { member, inner: waiting }.await??,
            };
        }
        Ok(message)
    }

    /// Runs the response hooks, last filter first.
    ///
    /// # Errors
    ///
    /// The status that a filter put in the response's place.
    pub(crate) fn response(
        &self,
        call: &Call,
        http_status: u16,
        metadata: &mut HeaderMap,
        trailers_only: bool,
    ) -> Result<(), Status> {
        for member in self.filters.iter().rev().filter(|member| member.needs.contains(Needs::RESPONSE)) {
            let head = ResponseHead { http_status, metadata, trailers_only };
            member.guard(|| member.filter.filter.response(call, head))??;
        }
        Ok(())
    }

    /// Runs the trailer hooks, last filter first.
    ///
    /// # Errors
    ///
    /// INTERNAL when a filter panicked.
    pub(crate) fn trailers(&self, call: &Call, trailers: &mut HeaderMap) -> Result<(), Status> {
        for member in self.filters.iter().rev().filter(|member| member.needs.contains(Needs::TRAILERS)) {
            member.guard(|| member.filter.filter.trailers(call, trailers))?;
        }
        Ok(())
    }

    /// Runs the finish hooks of the first `reached` filters, last filter first.
    pub(crate) fn finish(&self, call: &Call, outcome: &Outcome, reached: usize) {
        for member in self.filters[..reached].iter().rev().filter(|member| member.needs.contains(Needs::FINISH)) {
            // The call has ended: a panic here has been logged and there is nobody left to tell.
            let _ = member.guard(|| member.filter.filter.finish(call, outcome));
        }
    }
}

impl Member {
    /// Runs a hook, and turns its panic into INTERNAL: a filter's bug ends one call, not the process.
    fn guard<T>(&self, hook: impl FnOnce() -> T) -> Result<T, Status> {
        catch_unwind(AssertUnwindSafe(hook)).map_err(|_| self.panicked())
    }

    fn panicked(&self) -> Status {
        tracing::error!(filter = %self.filter.name, "a filter panicked; its call ends with INTERNAL");
        Status::new(Code::Internal, format!("filter {} failed", self.filter.name))
    }
}

/// A filter's future, whose panic is its call's end alone.
struct CatchPanic<'a, T> {
    member: &'a Member,
    inner: std::pin::Pin<Box<dyn Future<Output = T> + 'a>>,
}

impl<T> Future for CatchPanic<'_, T> {
    type Output = Result<T, Status>;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let this = self.get_mut();
        match catch_unwind(AssertUnwindSafe(|| this.inner.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(this.member.panicked())),
        }
    }
}
