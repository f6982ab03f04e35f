//! Answering a challenge in a browser: what a terminal and a page share while somebody makes up their mind.
//!
//! A terminal that holds a challenge asks for a page. The page says what the touch is for and shows three numbers, of which
//! one stands in the terminal: a link alone, sent by somebody else, is not enough. A wrong number, or a no, ends the
//! challenge. The assertion is judged here without being spent, and is then the terminal's to use as that of a key at hand.
//!
//! All of this is kept in memory: it lives as long as a challenge, five minutes, and what is lost when authd stops is asked
//! for again.

mod show;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use auth::{clock::unix_millis, identity::UserName, proto};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use webauthn_rs::prelude::PublicKeyCredential;

use crate::{
    audit,
    challenge::{self, Challenge},
    cluster::Cluster,
    error::Refused,
    mfa::{self, Device},
    room::neighbourhood,
    secret,
};

/// Pages that may be open, in all.
const ALL: usize = 10_000;
/// Pages for challenges that are nobody's, of one address: strangers must not be able to fill the room of everybody.
const NOBODYS_OF_ONE_ADDRESS: usize = 64;
/// Pages for one challenge, one after the other. Each is recorded, and whoever holds a challenge must not be able to fill the
/// audit trail with it; a terminal asks once.
const PAGES_OF_ONE_CHALLENGE: u32 = 5;
/// Wrong assertions that a page may send before its challenge is over.
const MAX_FAILURES: u32 = 5;
/// How long a terminal's question is kept waiting.
const POLL: Duration = Duration::from_secs(20);
/// What such a page is called when there is none.
const SECRET: &str = "this link";

/// Pages that wait for somebody, by the hash of their id.
#[derive(Clone, Default)]
pub(crate) struct Pages(Arc<Mutex<HashMap<String, Page>>>);

struct Page {
    challenge_id: String,
    /// The challenge is nobody's yet.
    is_nobodys: bool,
    /// Pages that were asked for with this challenge, up to this one.
    count: u32,
    /// Hash of what the terminal asks with.
    wait_token: String,
    /// The one in the terminal, and the three on the page.
    number: String,
    numbers: Vec<String>,
    /// Where the terminal is.
    address: IpAddr,
    made: SystemTime,
    until: SystemTime,
    /// Hash of what the browser was given for the right number. Whoever opens the page anew presses it again.
    pass: Option<String>,
    failures: u32,
    outcome: watch::Sender<Outcome>,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    /// The assertion, as JSON.
    Approved(String),
    Denied,
}

impl Page {
    fn is_open(&self) -> bool {
        *self.outcome.borrow() == Outcome::Open
    }
}

impl Pages {
    fn open(&self, id: &str, mut page: Page, now: SystemTime) -> Result<(), Refused> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The count of a challenge goes with its last page, which outlives it.
        pages.retain(|_, other| now < other.until);
        let earlier = pages.iter().find(|(_, other)| other.challenge_id == page.challenge_id);
        if let Some((id, earlier)) = earlier.map(|(id, earlier)| (id.clone(), earlier.count)) {
            if earlier >= PAGES_OF_ONE_CHALLENGE {
                return Err(Refused::TooMany("approvals"));
            }
            page.count += earlier;
            // One page for one challenge: the last that was asked for.
            pages.remove(&id);
        }
        let neighbours = |other: &&Page| neighbourhood(other.address) == neighbourhood(page.address);
        let nobodys = pages.values().filter(|other| other.is_nobodys).filter(neighbours).count();
        if pages.len() >= ALL || (page.is_nobodys && nobodys >= NOBODYS_OF_ONE_ADDRESS) {
            return Err(Refused::TooMany("approvals"));
        }
        pages.insert(secret::hash(id), page);
        Ok(())
    }

    /// Does something with a page that still waits for an answer. One that is over is told from one that never was by
    /// nobody.
    fn with<T>(
        &self,
        id: &str,
        now: SystemTime,
        act: impl FnOnce(&mut Page) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page = pages.get_mut(&secret::hash(id)).filter(|page| now < page.until && page.is_open());
        act(page.ok_or(Refused::Secret(SECRET))?)
    }

    fn outcome(&self, wait_token: &str, now: SystemTime) -> Result<watch::Receiver<Outcome>, Refused> {
        let (id, token) = wait_token.split_once('.').ok_or(Refused::Challenge)?;
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page =
            pages.get(id).filter(|page| now < page.until && same(&page.wait_token, &secret::hash(token)));
        Ok(page.ok_or(Refused::Challenge)?.outcome.subscribe())
    }
}

/// Told in constant time.
fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

impl Cluster {
    /// A page for a challenge that a security key can answer. It is recorded where the challenge is somebody's: anybody gets
    /// one that is nobody's, as often as they like. Of that the approval will tell, which says whose it was.
    pub(crate) async fn begin_browser_mfa(
        &self,
        challenge_id: &str,
        address: IpAddr,
    ) -> Result<proto::BrowserMfa, Refused> {
        let (owner, challenge) = self.peek_any(challenge_id).await?;
        if challenge.webauthn.is_none() {
            return Err(Refused::field("challenge_id", "this challenge is not for a security key"));
        }
        let (id, token, now) = (secret::generate()?, secret::generate()?, self.clock.now());
        let numbers = three_numbers()?;
        let number = pick(&numbers)?;
        let until = now + challenge::LIFE;
        let page = Page {
            challenge_id: challenge_id.to_owned(),
            is_nobodys: owner.is_none(),
            count: 1,
            wait_token: secret::hash(&token),
            number: number.clone(),
            numbers,
            address,
            made: now,
            until,
            pass: None,
            failures: 0,
            outcome: watch::Sender::new(Outcome::Open),
        };
        self.pages.open(&id, page, now)?;
        if let Some(owner) = owner {
            let event = json!({
                "event": "mfa_auth_challenge.create", "code": "T1015I", "user": owner, "addr.remote": address,
                "challenge_scope": challenge.scope.as_str(), "flow_type": "BROWSER",
            });
            self.audit.emit(event).await?;
        }
        Ok(proto::BrowserMfa {
            url: format!("https://{}/web/approve/{id}", self.public_addr),
            number,
            // The hash finds the page without giving its address away.
            wait_token: format!("{}.{token}", secret::hash(&id)),
            expires: unix_millis(until),
        })
    }

    /// Waits for what happens on the page, up to twenty seconds.
    ///
    /// # Cancel safety
    /// Nothing is taken: asked again, the answer is the same.
    pub(crate) async fn await_browser_mfa(
        &self,
        wait_token: &str,
    ) -> Result<proto::AwaitBrowserMfaResponse, Refused> {
        use proto::await_browser_mfa_response::{Denied, Outcome as Answer, Pending};
        let mut outcome = self.pages.outcome(wait_token, self.clock.now())?;
        let settled = outcome.wait_for(|outcome| *outcome != Outcome::Open);
        let answer = match tokio::time::timeout(POLL, settled).await {
            Err(_) => Answer::Pending(Pending {}),
            Ok(Err(_)) => return Err(Refused::Challenge),
            Ok(Ok(outcome)) => match &*outcome {
                Outcome::Approved(json) => Answer::Approved(proto::MfaResponse {
                    response: Some(proto::mfa_response::Response::WebauthnAssertionJson(json.clone())),
                }),
                Outcome::Denied => Answer::Denied(Denied {}),
                Outcome::Open => Answer::Pending(Pending {}),
            },
        };
        Ok(proto::AwaitBrowserMfaResponse { outcome: Some(answer) })
    }

    /// Somebody pressed a number. The right one gives what the key is asked, and what its answer must come with; a wrong one
    /// ends the challenge.
    pub(crate) async fn press_number(
        &self,
        id: &str,
        pressed: &str,
        address: IpAddr,
    ) -> Result<(String, String), Refused> {
        let (now, pass) = (self.clock.now(), secret::generate()?);
        let challenge_id = self.pages.with(id, now, |page| Ok(page.challenge_id.clone()))?;
        let (_, challenge) = self.peek_any(&challenge_id).await.map_err(|_| Refused::Secret(SECRET))?;
        let question = challenge.webauthn.ok_or(Refused::Secret(SECRET))?;
        let right = self.pages.with(id, now, |page| {
            let right = same(&page.number, pressed);
            match right {
                true => page.pass = Some(secret::hash(&pass)),
                false => drop(page.outcome.send_replace(Outcome::Denied)),
            }
            Ok(right)
        })?;
        if !right {
            self.burn(&challenge_id, "a wrong number was pressed", address).await?;
            return Err(Refused::WrongNumber);
        }
        Ok((question.options_json, pass))
    }

    /// Somebody said no.
    pub(crate) async fn deny(&self, id: &str, address: IpAddr) -> Result<(), Refused> {
        let challenge_id = self.pages.with(id, self.clock.now(), |page| {
            page.outcome.send_replace(Outcome::Denied);
            Ok(page.challenge_id.clone())
        })?;
        self.burn(&challenge_id, "denied by the person", address).await
    }

    /// The touch, after the right number. What is approved is as good as it can be known without spending the challenge.
    pub(crate) async fn approve(
        &self,
        id: &str,
        pass: &str,
        assertion: &serde_json::Value,
        address: IpAddr,
    ) -> Result<(), Refused> {
        let now = self.clock.now();
        let challenge_id = self.pages.with(id, now, |page| {
            let known = page.pass.as_deref().is_some_and(|known| same(known, &secret::hash(pass)));
            if known { Ok(page.challenge_id.clone()) } else { Err(Refused::NumberFirst) }
        })?;
        let (owner, challenge) = self.peek_any(&challenge_id).await.map_err(|_| Refused::Secret(SECRET))?;
        let json = assertion.to_string();
        let credential =
            serde_json::from_value(assertion.clone()).map_err(|_| Refused::field("assertion", "is none"))?;
        let device = match self.would_answer(owner.as_ref(), &challenge, &credential).await {
            Ok(device) => device,
            Err(refused) => return Err(self.wrong_assertion(id, &challenge_id, refused, address).await?),
        };
        let mut event = validated("T1016I", true, &device.user, &challenge, address);
        audit::set(&mut event, "mfa_device", mfa::audit_fields(&device));
        self.audit.emit(event).await?;
        self.pages.with(id, now, |page| {
            page.outcome.send_replace(Outcome::Approved(json));
            Ok(())
        })
    }

    async fn would_answer(
        &self,
        owner: Option<&UserName>,
        challenge: &Challenge,
        credential: &PublicKeyCredential,
    ) -> Result<Device, Refused> {
        match owner {
            Some(owner) => self.would_prove(owner, challenge, credential).await,
            None => {
                let (owner, _) = self.passkey_owner(credential).await?;
                self.would_prove(&owner, challenge, credential).await
            }
        }
    }

    /// Counts it; the last one ends the challenge. What is returned is what the page is told.
    async fn wrong_assertion(
        &self,
        id: &str,
        challenge_id: &str,
        refused: Refused,
        address: IpAddr,
    ) -> Result<Refused, Refused> {
        if let Refused::CounterWentBack(found) = &refused {
            self.emit_counter_went_back(found).await?;
        }
        let over = self.pages.with(id, self.clock.now(), |page| {
            page.failures += 1;
            let over = page.failures >= MAX_FAILURES;
            if over {
                page.outcome.send_replace(Outcome::Denied);
            }
            Ok(over)
        })?;
        if over {
            self.burn(challenge_id, "too many wrong assertions", address).await?;
        }
        Ok(refused)
    }

    /// Spends a challenge for nothing, on record where it is somebody's.
    async fn burn(&self, challenge_id: &str, why: &str, address: IpAddr) -> Result<(), Refused> {
        if self.spend_passwordless(challenge_id).is_some() {
            return Ok(());
        }
        let (owner, _) = secret::parse_owned_id(challenge_id).ok_or(Refused::Challenge)?;
        // The race: it was spent by the terminal meanwhile, or is over. Nothing is left to burn.
        let Ok(challenge) = self.spend_challenge(&owner, challenge_id).await else { return Ok(()) };
        let mut event = validated("T1016W", false, &owner, &challenge, address);
        audit::set(&mut event, "error", why);
        Ok(self.audit.emit(event).await?)
    }

    /// An open challenge and whose it is; `None`: a passwordless one, which is nobody's yet.
    async fn peek_any(&self, challenge_id: &str) -> Result<(Option<UserName>, Challenge), Refused> {
        if let Some(challenge) = self.peek_passwordless(challenge_id) {
            return Ok((None, challenge?));
        }
        let (owner, _) = secret::parse_owned_id(challenge_id).ok_or(Refused::Challenge)?;
        let challenge = self.peek_challenge(&owner, challenge_id).await?.value;
        Ok((Some(owner), challenge))
    }
}

/// The event of a page that was answered.
fn validated(
    code: &str,
    success: bool,
    user: &UserName,
    challenge: &Challenge,
    address: IpAddr,
) -> serde_json::Value {
    let mut event = json!({
        "event": "mfa_auth_challenge.validate", "code": code, "success": success, "user": user,
        "browser_address": address, "challenge_scope": challenge.scope.as_str(), "flow_type": "BROWSER",
    });
    challenge.scope.describe(&mut event);
    event
}

/// Three of ninety: each two digits, none twice.
fn three_numbers() -> Result<Vec<String>, Refused> {
    let mut numbers: Vec<String> = Vec::with_capacity(3);
    while numbers.len() < 3 {
        let number = (10 + below(90)?).to_string();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn pick(numbers: &[String]) -> Result<String, Refused> {
    let count = u8::try_from(numbers.len()).map_err(|_| Refused::Internal("numbers"))?;
    numbers.get(usize::from(below(count)?)).cloned().ok_or(Refused::Internal("numbers"))
}

/// A random number, each as likely as the other. `bound` is not 0.
fn below(bound: u8) -> Result<u8, Refused> {
    let fair = u8::MAX - u8::MAX % bound;
    loop {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte).map_err(|_| Refused::Internal("no randomness"))?;
        if byte[0] < fair {
            return Ok(byte[0] % bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn page(challenge_id: String, is_nobodys: bool, last_byte: u8) -> Page {
        Page {
            challenge_id,
            is_nobodys,
            count: 1,
            wait_token: String::new(),
            number: "10".to_owned(),
            numbers: vec![],
            address: [192, 0, 2, last_byte].into(),
            made: NOW,
            until: NOW + challenge::LIFE,
            pass: None,
            failures: 0,
            outcome: watch::Sender::new(Outcome::Open),
        }
    }

    #[test]
    fn strangers_at_one_address_do_not_fill_the_room_of_everybody() {
        let pages = Pages::default();
        let open = |n: usize, is_nobodys, address| {
            pages.open(&n.to_string(), page(n.to_string(), is_nobodys, address), NOW)
        };
        for n in 0..NOBODYS_OF_ONE_ADDRESS {
            open(n, true, 1).unwrap();
        }
        assert!(matches!(open(1000, true, 1), Err(Refused::TooMany(_))));
        open(1001, true, 2).unwrap();
        open(1002, false, 1).unwrap();
        // What is over makes room.
        let later = NOW + challenge::LIFE;
        pages.open("later", page("later".to_owned(), true, 1), later).unwrap();
    }

    #[test]
    fn a_challenge_has_so_many_pages_and_the_last_of_them_stays() {
        let pages = Pages::default();
        let open = |n: u32| pages.open(&n.to_string(), page("one".to_owned(), false, 1), NOW);
        for n in 1..=PAGES_OF_ONE_CHALLENGE {
            open(n).unwrap();
        }
        assert!(matches!(open(PAGES_OF_ONE_CHALLENGE + 1), Err(Refused::TooMany(_))));
        let there = |n: u32| pages.with(&n.to_string(), NOW, |_| Ok(())).is_ok();
        assert!(there(PAGES_OF_ONE_CHALLENGE) && !there(PAGES_OF_ONE_CHALLENGE - 1));
    }

    #[test]
    fn three_different_numbers_of_two_digits_of_which_any_may_be_it() {
        let mut places = [0; 3];
        for _ in 0..300 {
            let numbers = three_numbers().unwrap();
            assert!(numbers.iter().all(|number| number.len() == 2), "{numbers:?}");
            assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2]);
            let picked = pick(&numbers).unwrap();
            places[numbers.iter().position(|number| *number == picked).unwrap()] += 1;
        }
        assert!(places.iter().all(|count| *count > 30), "{places:?}");
    }
}
