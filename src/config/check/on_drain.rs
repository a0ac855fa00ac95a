//! Rules for what a drain does to streams.

use std::time::Duration;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::on_drain::{DrainPolicyName, OnDrain};
use crate::config::file::value;
use crate::config::located::At;
use crate::config::plan::{self, DrainPolicy};
use crate::config::suggest::did_you_mean;

/// Long enough for the streams of one gateway to find room elsewhere, and short against the time that a drain has.
const WINDOW: Duration = Duration::from_secs(10);

/// The same time, in which many a stream ends by itself.
const AFTER: Duration = Duration::from_secs(10);

impl Checker<'_, '_> {
    /// What a drain does to the streams of a route.
    pub(super) fn on_drain(&self, field: Option<&At<OnDrain>>, scope: &Scope) -> plan::OnDrain {
        let Some((field, value)) = field.and_then(|at| Some((at, at.value.as_ref()?))) else {
            return plan::OnDrain::default();
        };
        let policy = self.required(value.policy.as_ref(), "policy", &scope.key("on_drain", field));
        let policy = policy.and_then(|at| Some((at, self.drain_policy(value, at)?)));
        let pushback = self.duration(value.pushback.as_ref()).unwrap_or_default();
        let Some((at, policy)) = policy else { return plan::OnDrain::default() };
        self.belongs("window", value.window.as_ref(), at, matches!(policy, DrainPolicy::EndAtMessageBoundary(_)));
        self.belongs("after", value.after.as_ref(), at, matches!(policy, DrainPolicy::Cut(_)));
        self.belongs("pushback", value.pushback.as_ref(), at, policy != DrainPolicy::Wait);
        plan::OnDrain { policy, pushback }
    }

    fn drain_policy(&self, value: &OnDrain, at: &At<DrainPolicyName>) -> Option<DrainPolicy> {
        let window = self.positive(value.window.as_ref(), "window").unwrap_or(WINDOW);
        let after = self.duration(value.after.as_ref()).unwrap_or(AFTER);
        let DrainPolicyName(text) = at.value.as_ref()?;
        match text.as_str() {
            "wait" => Some(DrainPolicy::Wait),
            "end_at_message_boundary" => Some(DrainPolicy::EndAtMessageBoundary(window)),
            "cut" => Some(DrainPolicy::Cut(after)),
            _ => {
                let label = did_you_mean(text, DrainPolicy::NAMES);
                let label = label.unwrap_or_else(|| format!("one of `{}`", DrainPolicy::NAMES.join("`, `")));
                self.error(Diagnostic::new(at.place, format!("unknown drain policy `{text}`")).label(label));
                None
            }
        }
    }

    /// A time that the policy does not know would never come.
    fn belongs(&self, key: &str, field: Option<&At<value::Duration>>, policy: &At<DrainPolicyName>, does: bool) {
        if let Some(field) = field.filter(|_| !does) {
            let error = Diagnostic::new(field.key, format!("`{key}` has no meaning with this policy"));
            let label = match key {
                "window" => "it belongs to `end_at_message_boundary`",
                "after" => "it belongs to `cut`",
                _ => "it belongs to `end_at_message_boundary` and `cut`",
            };
            self.error(error.label(label).other(policy.place, "the policy"));
        }
    }
}
