//! A one-time password device, as in a person's pocket.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use totp_rs::{Builder, Secret, Totp};

/// Length of one step in seconds (RFC 6238, the default).
const STEP: u64 = 30;

/// Shows six-digit codes (RFC 6238), each once: a used code would be refused.
pub struct OtpDevice {
    totp: Totp,
    last_step: u64,
}

impl OtpDevice {
    /// A device with the secret that was shown when it was registered, in base32.
    ///
    /// # Errors
    /// When that is no secret.
    pub fn new(secret: &str) -> Result<Self> {
        let secret = Secret::try_from_base32(secret.trim()).context("secret of the OTP device")?;
        let totp = Builder::new().with_secret(secret).build().context("OTP device")?;
        Ok(Self { totp, last_step: 0 })
    }

    /// A code that was not shown before. authd accepts the neighbouring steps too, so the next step's code may be
    /// shown ahead of its time; beyond that the device waits, as a person would.
    ///
    /// # Errors
    /// When the clock stands before 1970.
    pub fn code(&mut self) -> Result<String> {
        let step = (self.last_step + 1).max(now()? / STEP);
        while now()? / STEP + 1 < step {
            thread::sleep(Duration::from_millis(200));
        }
        self.last_step = step;
        Ok(self.totp.generate(step * STEP).to_string())
    }
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_shown_twice() {
        let mut device = OtpDevice::new("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
        assert_ne!(device.code().unwrap(), device.code().unwrap());
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let device = OtpDevice::new("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
        // RFC 6238, appendix B, SHA-1, T = 59: the last six of 94287082.
        assert_eq!(device.totp.generate(59).to_string(), "287082");
    }
}
