//! SSH user certificates.
