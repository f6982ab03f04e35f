//! What is asked for the whole connection (RFC 4254 §4, §7.1).

use super::super::channels::{From, Owed, TooMany};
use super::super::lent::{LISTENERS, Listening};
use super::super::message;
use super::super::relay::{Stop, locked};
use super::super::requests::{Request, may};
use super::{CUT, FORWARD, Next, Session, too_many};
use crate::Tap;
use crate::event::ssh::SshAction;
use crate::reader::{Reader, Short};

impl<T: Tap> Session<T> {
    /// A side asks for something for the whole connection.
    pub(super) async fn global(&self, from: From, payload: &mut [u8]) -> Result<Next, Stop> {
        let cut = |_: Short| Stop::Malformed(from, CUT);
        let mut reader = Reader::new(payload);
        reader.u8().map_err(cut)?;
        let request = Request::parse(reader).map_err(cut)?;
        let failure = vec![message::REQUEST_FAILURE];
        if from == From::Upstream {
            // Its host keys, above all, are not ours.
            let (passes, owed) = match request.name {
                b"keepalive@openssh.com" => (FORWARD, Owed::Other),
                _ => (Next::Nothing, Owed::No),
            };
            let too_many = |_: TooMany| Stop::Malformed(from, "too many requests at once");
            let at_once =
                request.want_reply && locked(&self.state).upstream_answers.owe(owed).map_err(too_many)?;
            return Ok(if at_once { Next::Answer(failure) } else { passes });
        }
        let action = request.global_action().map_err(cut)?;
        let (mut refused, mut listening) = (false, None);
        if let Some(action) = action {
            let (at, follows) = self.listening(&request, action);
            let allowed = may(&self.allowed, &action) && follows;
            refused = self.show(None, allowed, action).await?.is_some() || !allowed;
            listening = at;
        }
        let mut state = locked(&self.state);
        if refused {
            let at_once = request.want_reply && state.answers.owe(Owed::No).map_err(too_many)?;
            return Ok(if at_once { Next::Answer(failure) } else { Next::Nothing });
        }
        let mut owed = Owed::Other;
        match (action, listening) {
            // Lent when the host says yes: its answers come in order, and so before what comes in there.
            (Some(SshAction::Listen(_)), Some(listening)) if request.want_reply => {
                owed = Owed::Listening(Box::new(listening));
            }
            (Some(SshAction::Listen(_)), Some(listening)) => state.lent.listen(listening),
            // At once, whatever the host says to it: what it has not opened by now is not wanted any more.
            (Some(SshAction::CancelListen(_)), Some(listening)) => {
                state.lent.cancel(&listening);
                state.answers.cancel(&listening);
            }
            _ => {}
        }
        if request.want_reply {
            state.answers.owe(owed).map_err(too_many)?;
        }
        Ok(FORWARD)
    }

    /// A side answers a request for the whole connection.
    pub(super) fn global_answer(&self, from: From, payload: &[u8]) -> Result<Next, Stop> {
        let mut state = locked(&self.state);
        let answers = match from {
            From::Client => &mut state.upstream_answers,
            From::Upstream => &mut state.answers,
        };
        let (owed, times) = answers.answered().ok_or(Stop::Malformed(from, "an answer to no request"))?;
        if let (Owed::Listening(asked), Some(&message::REQUEST_SUCCESS)) = (owed, payload.first())
            && let Some(listening) = asked.granted(payload)
        {
            state.lent.listen(listening);
        }
        Ok(Next::Forward { then: vec![message::REQUEST_FAILURE], times })
    }

    /// Where a request of the client's wants the host to listen, and whether that can be followed.
    fn listening(&self, request: &Request<'_>, action: SshAction<'_>) -> (Option<Listening>, bool) {
        match action {
            SshAction::Listen(at) => {
                let state = locked(&self.state);
                let has_room = state.lent.listeners() + state.answers.listeners() < LISTENERS;
                let listening = Listening::at(at);
                // A port that the host chooses and tells nobody is no use to anybody, and could be any.
                let is_known = |at: &Listening| request.want_reply || !at.is_chosen_by_host();
                let follows = has_room && listening.as_ref().is_some_and(is_known);
                (listening, follows)
            }
            SshAction::CancelListen(at) => (Listening::at(at), true),
            _ => (None, true),
        }
    }
}
