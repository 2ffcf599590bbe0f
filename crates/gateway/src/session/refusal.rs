//! What is refused: counted, noted, and written to the log under the id the client is told.
//!
//! Owns: which refusals have such an id, and the log lines. Must not know: how a refusal is spelt.

use std::sync::Arc;

use parlance_model::{ConversationId, Reject, RejectCode};

use super::run::Session;
use crate::journal::{Refused, word};

/// What was asked for, for logs.
pub(super) struct Asked<'a> {
    /// The command, in the dialect's word.
    pub event: &'a str,
    /// The client's own id of what it sent.
    pub client_id: Option<&'a str>,
    /// Where it was to happen.
    pub place: Option<ConversationId>,
}

impl Session {
    /// Counts a refusal, and gives it an id that stands in the log too where the dialect or the fault asks for it.
    pub(super) fn correlate(&mut self, index: usize, asked: Asked<'_>, reject: &mut Reject) {
        let Some(conn) = self.conns.get(index) else { return };
        let dialect = conn.peer.dialect();
        self.node.metrics.reject(dialect, reject.code);
        let told = reject.code == RejectCode::Internal || dialect.correlates_refusals();
        if told {
            let id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
            reject.correlation_id = Some(id);
            self.log(index, &asked, reject);
        }
        let Some(conn) = self.conns.get(index).filter(|_| told || asked.client_id.is_some()) else { return };
        let refused = Refused {
            client_id: asked.client_id.map(Into::into),
            conversation: asked.place,
            why: reject.message.clone(),
            ..Refused::new(reject.correlation_id.clone(), self.node.clock.now(), asked.event, reject.code)
        };
        let mount = conn.mount.clone();
        self.node.journal.refused(refused.of_connection(dialect, mount, conn.link.as_deref()));
    }

    /// One line, unless the client has had its share of them. Never the frame, nor what was in it.
    fn log(&mut self, index: usize, asked: &Asked<'_>, reject: &Reject) {
        let Some(conn) = self.conns.get(index) else { return };
        let now = self.node.clock.now();
        let Some(left_out) = self.node.journal.lines.takes(self.lines.takes(now), now) else { return };
        let (dialect, mount) = (conn.peer.dialect().as_str(), conn.mount.name.as_str());
        let id = reject.correlation_id.as_deref().unwrap_or_default();
        let connection = conn.link.as_ref().map(|link| tracing::field::display(&link.connection));
        let conversation = asked.place.as_ref().map(tracing::field::display);
        let (code, message, command) = (word(reject.code), &*reject.message, asked.event);
        let left_out = (left_out > 0).then_some(left_out);
        macro_rules! line {
            ($level:ident, $text:literal) => {
                tracing::$level!(
                    "correlationId" = id,
                    dialect,
                    mount,
                    command,
                    code,
                    connection,
                    conversation,
                    why = message,
                    "linesLeftOut" = left_out,
                    $text
                )
            };
        }
        match reject.code {
            RejectCode::Internal => line!(error, "internal fault"),
            RejectCode::Unavailable => line!(warn, "refused: unavailable"),
            _ => line!(info, "refused"),
        }
    }
}
