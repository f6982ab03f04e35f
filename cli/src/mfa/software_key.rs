//! A security key that is a file (`$TSH_SOFTWARE_KEY`), for tests and the demo alone: whoever reads the file has the key,
//! and nobody needs to touch anything. Refused in builds without debug assertions, so no release can carry it.

#[cfg(not(debug_assertions))]
compile_error!("danger-software-key is for tests and the demo alone; it cannot be part of a release build");

use std::{
    env,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use webauthn_authenticator_rs::{WebauthnAuthenticator, error::WebauthnCError, softtoken::SoftToken};
use webauthn_rs_proto::{
    AllowCredentials, CreationChallengeResponse, PublicKeyCredential, RegisterPublicKeyCredential,
    RequestChallengeResponse,
};

use super::{KeyError, RelyingParty, SecurityKey};
use crate::files;

/// The file that holds the key, or will.
pub(super) struct SoftwareKey {
    path: PathBuf,
}

impl SoftwareKey {
    pub(super) fn from_environment() -> Option<Self> {
        let path = env::var_os("TSH_SOFTWARE_KEY").filter(|path| !path.is_empty())?;
        Some(Self { path: path.into() })
    }

    /// Uses the token while no other process does, and saves it (its counter moved) before the answer is given away.
    fn with_token<T>(
        &self,
        token: impl FnOnce(&Path) -> Result<SoftToken, KeyError>,
        act: impl FnOnce(&mut SoftToken) -> Result<T, WebauthnCError>,
    ) -> Result<T, KeyError> {
        let _lock = self.lock()?;
        let mut token = token(&self.path)?;
        let answer = act(&mut token).map_err(explain)?;
        files::write_private(&self.path, &token.to_cbor().map_err(explain)?)?;
        Ok(answer)
    }

    fn lock(&self) -> io::Result<Flock<File>> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }
}

fn existing(path: &Path) -> Result<SoftToken, KeyError> {
    let cbor = files::read_optional(path)?.ok_or(KeyError::NotRegistered)?;
    SoftToken::from_cbor(&cbor).map_err(explain)
}

fn existing_or_new(path: &Path) -> Result<SoftToken, KeyError> {
    match existing(path) {
        Err(KeyError::NotRegistered) => SoftToken::new(true).map(|(token, _)| token).map_err(explain),
        token => token,
    }
}

fn explain(error: WebauthnCError) -> KeyError {
    match error {
        WebauthnCError::NotSupported => KeyError::NotRegistered,
        error => KeyError::Failed { what: format!("{error:?}") },
    }
}

/// A passkey: the token knows none, so what it lacks (who is there, where nobody is named) lies beside it.
#[derive(Clone, Serialize, Deserialize)]
struct Passkey {
    rp_id: String,
    credential: Vec<u8>,
    user: Vec<u8>,
}

impl SoftwareKey {
    fn passkeys_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".passkeys");
        path.into()
    }

    fn passkeys(&self) -> Result<Vec<Passkey>, KeyError> {
        let Some(json) = files::read_optional(&self.passkeys_path())? else { return Ok(Vec::new()) };
        Ok(serde_json::from_slice(&json).map_err(io::Error::from)?)
    }

    fn keep(&self, passkey: Passkey) -> Result<(), KeyError> {
        let mut passkeys = self.passkeys()?;
        passkeys.push(passkey);
        Ok(files::write_private(
            &self.passkeys_path(),
            &serde_json::to_vec(&passkeys).map_err(io::Error::from)?,
        )?)
    }
}

impl SecurityKey for SoftwareKey {
    fn register(
        &self,
        party: &RelyingParty,
        mut options: CreationChallengeResponse,
    ) -> Result<RegisterPublicKeyCredential, KeyError> {
        let asked = &mut options.public_key;
        let (rp_id, user) = (asked.rp.id.clone(), asked.user.id.clone());
        let selection = asked.authenticator_selection.as_mut();
        let resident = selection.is_some_and(|selection| std::mem::take(&mut selection.require_resident_key));
        let made =
            self.with_token(existing_or_new, |token| token.do_registration(party.origin().clone(), options))?;
        if resident {
            self.keep(Passkey { rp_id, credential: made.raw_id.clone(), user })?;
        }
        Ok(made)
    }

    fn assert(
        &self,
        party: &RelyingParty,
        mut options: RequestChallengeResponse,
    ) -> Result<PublicKeyCredential, KeyError> {
        let asked = &mut options.public_key;
        let mut passkeys = self.passkeys()?;
        passkeys.retain(|passkey| passkey.rp_id == asked.rp_id);
        if asked.allow_credentials.is_empty() {
            let allowed = |passkey: &Passkey| AllowCredentials {
                type_: "public-key".to_owned(),
                id: passkey.credential.clone(),
                transports: None,
            };
            asked.allow_credentials = passkeys.iter().map(allowed).collect();
            if passkeys.is_empty() {
                return Err(KeyError::NotRegistered);
            }
        }
        let mut signed =
            self.with_token(existing, |token| token.do_authentication(party.origin().clone(), options))?;
        let used = passkeys.into_iter().find(|passkey| passkey.credential == signed.raw_id);
        signed.response.user_handle = used.map(|passkey| passkey.user);
        Ok(signed)
    }

    fn warning(&self) -> Option<&str> {
        Some("WARNING: this was a software security key, for tests alone: its private key lies in a file.")
    }
}

#[cfg(test)]
mod tests;
