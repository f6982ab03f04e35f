//! Policy: what the roles of an identity allow, deny, or allow after MFA.
