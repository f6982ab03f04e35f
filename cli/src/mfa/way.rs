//! Which way a challenge is answered: what the person asked for, what is here, and what the service takes.

use super::MfaError;

/// Which second factor is used (`--mfa-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Whatever is there: a security key that is plugged in, else the browser; a code is taken too.
    #[default]
    Auto,
    /// A security key that is plugged in.
    CrossPlatform,
    /// This machine's own authenticator (Touch ID, Windows Hello), which the browser asks.
    Platform,
    /// A code from an OTP device.
    Otp,
    /// A page in the browser: any key or passkey that the browser can use.
    Browser,
}

/// Which device a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Any of the user's.
    Any,
    /// One that is registered already, while another is being added.
    Registered,
}

/// What a challenge can be answered with, here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Code,
    Touch(Touch),
    /// Whichever comes first.
    TouchOrCode(Touch),
}

/// Where a security key is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// It is plugged in here.
    Key,
    /// On a page, in a browser that may be another machine's.
    Browser,
    /// On a page in this machine's browser, by the machine itself.
    Platform,
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// The service takes a security key's answer.
    pub(super) key: bool,
    /// A security key is plugged in.
    pub(super) key_here: bool,
    /// The service takes a code.
    pub(super) code: bool,
}

/// What was asked for is never replaced by something else.
pub(super) fn choose(mode: Mode, offer: Offer) -> Result<Way, MfaError> {
    let offered = |touch| if offer.key { Ok(Way::Touch(touch)) } else { Err(MfaError::NoDevice) };
    match mode {
        Mode::Otp if offer.code => Ok(Way::Code),
        Mode::Otp => Err(MfaError::NoOtp),
        Mode::CrossPlatform if offer.key && !offer.key_here => Err(MfaError::NoSecurityKey),
        Mode::CrossPlatform => offered(Touch::Key),
        Mode::Platform => offered(Touch::Platform),
        Mode::Browser => offered(Touch::Browser),
        Mode::Auto => {
            let touch = if offer.key_here { Touch::Key } else { Touch::Browser };
            match (offer.key, offer.code) {
                (true, true) => Ok(Way::TouchOrCode(touch)),
                (true, false) => Ok(Way::Touch(touch)),
                (false, true) => Ok(Way::Code),
                (false, false) => Err(MfaError::NoDevice),
            }
        }
    }
}

impl Way {
    /// The same on a page, where this way leads to a key that is plugged in.
    pub(super) fn in_browser(self) -> Option<Self> {
        match self {
            Self::Touch(Touch::Key) => Some(Self::Touch(Touch::Browser)),
            Self::TouchOrCode(Touch::Key) => Some(Self::TouchOrCode(Touch::Browser)),
            _ => None,
        }
    }

    /// What is shown. A page says for itself what to do there, and stands before this.
    pub(super) fn prompt(self, whose: Whose) -> Option<String> {
        let which = match whose {
            Whose::Any => "",
            Whose::Registered => "*registered* ",
        };
        match self {
            Self::Code if whose == Whose::Any => Some("Enter an OTP code from a device:".to_owned()),
            Self::Code => Some(format!("Enter an OTP code from a {which}device:")),
            Self::Touch(Touch::Key) => Some(format!("Tap any {which}security key")),
            Self::TouchOrCode(Touch::Key) => {
                Some(format!("Tap any {which}security key or enter a code from a {which}OTP device:"))
            }
            Self::Touch(Touch::Browser | Touch::Platform) => None,
            Self::TouchOrCode(Touch::Browser | Touch::Platform) => {
                Some(format!("Or enter a code from a {which}OTP device:"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(key: bool, key_here: bool, code: bool) -> Offer {
        Offer { key, key_here, code }
    }

    #[test]
    fn prompts_are_teleports() {
        let shown = |way: Way| way.prompt(Whose::Any);
        assert_eq!(shown(Way::Touch(Touch::Key)).unwrap(), "Tap any security key");
        assert_eq!(
            shown(Way::TouchOrCode(Touch::Key)).unwrap(),
            "Tap any security key or enter a code from a OTP device:"
        );
        assert_eq!(shown(Way::Code).unwrap(), "Enter an OTP code from a device:");
        let registered = |way: Way| way.prompt(Whose::Registered).unwrap();
        assert_eq!(registered(Way::Touch(Touch::Key)), "Tap any *registered* security key");
        assert_eq!(registered(Way::Code), "Enter an OTP code from a *registered* device:");
    }

    #[test]
    fn auto_prefers_the_key_that_is_plugged_in_and_always_takes_a_code() {
        let auto = |key, key_here, code| choose(Mode::Auto, offer(key, key_here, code));
        assert_eq!(auto(true, true, true).unwrap(), Way::TouchOrCode(Touch::Key));
        assert_eq!(auto(true, true, false).unwrap(), Way::Touch(Touch::Key));
        assert_eq!(auto(true, false, true).unwrap(), Way::TouchOrCode(Touch::Browser));
        assert_eq!(auto(true, false, false).unwrap(), Way::Touch(Touch::Browser));
        assert_eq!(auto(false, true, true).unwrap(), Way::Code);
        assert!(matches!(auto(false, true, false), Err(MfaError::NoDevice)));
    }

    #[test]
    fn a_mode_that_was_asked_for_is_never_replaced_by_another() {
        assert_eq!(choose(Mode::Otp, offer(true, true, true)).unwrap(), Way::Code);
        assert!(matches!(choose(Mode::Otp, offer(true, true, false)), Err(MfaError::NoOtp)));
        let key = |offer| choose(Mode::CrossPlatform, offer);
        assert_eq!(key(offer(true, true, true)).unwrap(), Way::Touch(Touch::Key));
        assert!(matches!(key(offer(true, false, true)), Err(MfaError::NoSecurityKey)));
        assert!(matches!(key(offer(false, true, true)), Err(MfaError::NoDevice)));
        for (mode, touch) in [(Mode::Browser, Touch::Browser), (Mode::Platform, Touch::Platform)] {
            assert_eq!(choose(mode, offer(true, true, true)).unwrap(), Way::Touch(touch));
            assert!(matches!(choose(mode, offer(false, true, true)), Err(MfaError::NoDevice)));
        }
    }
}
