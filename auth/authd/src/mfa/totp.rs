//! Codes of an authenticator app (RFC 6238): SHA-1, six digits, 30 seconds, one step either way. A code counts once.

use std::time::{SystemTime, UNIX_EPOCH};

use auth::{identity::UserName, proto};
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

use super::{Device, DeviceSecret, DeviceType};
use crate::{cluster::Cluster, error::Refused, store::Op};

/// Seconds of one step; the apps know no other.
const PERIOD: u64 = 30;
const DIGITS: u8 = 6;
/// Steps before and after the present one that are accepted: clocks of telephones are not exact.
const SKEW: u16 = 1;

/// A new secret, base32: 160 bits (RFC 4226 section 4, R6).
pub(crate) fn new_secret() -> Result<Zeroizing<String>, Refused> {
    let mut bytes = Zeroizing::new([0_u8; 20]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| Refused::Internal("no randomness"))?;
    Ok(Zeroizing::new(Secret::from(*bytes).to_base32()))
}

/// What the user's app needs.
pub(crate) fn describe(cluster: &str, user: &UserName, secret: &str) -> Result<proto::TotpSecret, Refused> {
    let totp = build(secret, user.as_str(), cluster)?;
    let otpauth_url = totp.to_url().map_err(|_| Refused::Internal("no otpauth URL"))?;
    Ok(proto::TotpSecret {
        otpauth_url,
        secret: secret.to_owned(),
        account: user.to_string(),
        issuer: cluster.to_owned(),
        algorithm: "SHA1".to_owned(),
        digits: DIGITS.into(),
        period_seconds: 30,
    })
}

/// The step that a code is of, if it is right now.
pub(crate) fn step_of(secret: &str, code: &str, now: SystemTime) -> Option<u64> {
    let digits = code.len() == usize::from(DIGITS) && code.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    // The library compares in constant time.
    build(secret, "account", "issuer").ok()?.check(code, seconds).filter(|_| digits)
}

fn build(secret: &str, account: &str, issuer: &str) -> Result<Totp, Refused> {
    let secret = Secret::try_from_base32(secret).map_err(|_| Refused::Internal("damaged TOTP secret"))?;
    Builder::new()
        .with_secret(secret)
        .with_digits(DIGITS)
        .with_skew(SKEW)
        .with_step_duration(PERIOD)
        // The separator of otpauth labels.
        .with_account_name(account.replace(':', "_"))
        .with_issuer(Some(issuer.replace(':', "_")))
        .build()
        .map_err(|_| Refused::Internal("TOTP parameters"))
}

impl Cluster {
    /// Is this a code of one of these devices that was not used before? Then the operation uses it up, together with those
    /// before it.
    pub(crate) async fn verify_totp(&self, devices: &[&Device], code: &str) -> Result<(Device, Op), Refused> {
        let now = self.clock.now();
        for device in devices.iter().filter(|device| device.kind == DeviceType::Totp) {
            let fresh = |secret: &mut DeviceSecret| match secret {
                DeviceSecret::Totp { secret, last_step } => match step_of(secret, code, now) {
                    Some(step) if last_step.is_none_or(|last| step > last) => {
                        *last_step = Some(step);
                        Ok(())
                    }
                    Some(_) | None => Err(Refused::Credentials),
                },
                DeviceSecret::Webauthn { .. } => Err(Refused::Credentials),
            };
            match self.use_device(device, fresh).await {
                Ok(used) => return Ok(((*device).clone(), used)),
                Err(Refused::Credentials) => {}
                Err(other) => return Err(other),
            }
        }
        Err(Refused::Credentials)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// RFC 6238 appendix B, its secret and times, the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = Secret::from(*b"12345678901234567890").to_base32();
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924")] {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(step_of(&secret, code, now), Some(seconds / 30));
            assert_eq!(step_of(&secret, code, now + Duration::from_secs(30)), Some(seconds / 30));
            assert_eq!(step_of(&secret, code, now + Duration::from_secs(60)), None);
        }
    }

    #[test]
    fn what_is_not_six_digits_is_no_code() {
        let secret = new_secret().unwrap();
        for code in ["", "12345", "1234567", "12 345", "abcdef", "１２３４５６"] {
            assert_eq!(step_of(&secret, code, UNIX_EPOCH + Duration::from_secs(1_000_000)), None);
        }
    }
}
