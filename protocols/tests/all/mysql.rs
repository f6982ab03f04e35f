//! MySQL: both logins, against scripted peers and against a real MariaDB where one is installed.

mod dial;
mod front;
mod lessons;
mod nine;
mod real;
mod session;
