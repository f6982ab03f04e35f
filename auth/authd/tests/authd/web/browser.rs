//! A browser as far as authd can tell: HTTPS, a cookie, and the headers that no script can set.

use rustls::version::TLS13;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use webauthn_authenticator_rs::WebauthnAuthenticator;

use crate::{server::tls_client, world::*};

pub(crate) struct Browser<'a> {
    pub(crate) world: &'a World,
    pub(crate) cookie: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Status and code of a refusal.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, String) {
        assert!(self.status >= 400, "was not refused: {self:?}");
        (self.status, self.json()["error"]["code"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

impl<'a> Browser<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, cookie: None }
    }

    /// What our own scripts send along.
    pub(crate) fn own_headers(&self) -> Vec<(String, String)> {
        let origin = self.world.origin().origin().ascii_serialization();
        let mut headers = vec![
            ("host".to_owned(), self.world.server.public_addr().to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
            ("origin".to_owned(), origin),
            ("sec-fetch-site".to_owned(), "same-origin".to_owned()),
        ];
        headers.extend(self.cookie.iter().map(|cookie| ("cookie".to_owned(), cookie.clone())));
        headers
    }

    pub(crate) async fn call(&mut self, name: &str, body: Value) -> Answer {
        let path = format!("/web/api/{name}");
        let answer = self.send("POST", &path, &self.own_headers(), body.to_string().as_bytes()).await;
        if let Some(cookie) = answer.header("set-cookie") {
            let pair = cookie.split(';').next().unwrap().to_owned();
            self.cookie = (!pair.ends_with('=')).then_some(pair);
        }
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let host = ("host".to_owned(), self.world.server.public_addr().to_owned());
        self.send("GET", path, &[host], b"").await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        let socket = TcpStream::connect(self.world.server.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = TlsConnector::from(tls_client(&TLS13)).connect(name, socket).await.unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let _ = tls.write_all(&[request.as_bytes(), body].concat()).await;
        let mut answer = Vec::new();
        // The other side may hang up without a word of TLS.
        let _ = tls.read_to_end(&mut answer).await;
        parse(&String::from_utf8(answer).unwrap())
    }

    /// Signs in with password and whatever second factor the person has.
    pub(crate) async fn sign_in(&mut self, person: &mut Person) -> Answer {
        let body = json!({"user": person.name, "password": PASSWORD});
        let challenge = self.call("login/begin", body).await.ok();
        let proof = self.prove(&challenge, person);
        self.call("login/finish", json!({"proof": proof})).await
    }

    /// The proof that answers a challenge.
    pub(crate) fn prove(&self, challenge: &Value, person: &mut Person) -> Value {
        let id = &challenge["challenge_id"];
        if person.token.is_none() {
            return json!({"challenge_id": id, "code": person.code(self.world.time.now())});
        }
        json!({"challenge_id": id, "assertion": self.touch(&challenge["webauthn"], person)})
    }

    /// The software key looks at the first credential alone: it is asked for one after the other.
    pub(crate) fn touch(&self, options: &Value, person: &mut Person) -> Value {
        let allowed = options["publicKey"]["allowCredentials"].as_array().unwrap();
        let token = person.token.as_mut().unwrap();
        let assertion = allowed.iter().find_map(|credential| {
            let mut options = options.clone();
            options["publicKey"]["allowCredentials"] = json!([credential]);
            token.do_authentication(self.world.origin(), serde_json::from_value(options).unwrap()).ok()
        });
        serde_json::to_value(assertion.unwrap()).unwrap()
    }

    /// A new key of a person; answers with what proves it, as calls take it.
    pub(crate) fn new_key(&self, registration: &Value, person: &mut Person, name: &str) -> Value {
        use auth::proto::{DeviceRegistration, device_registration::Kind, new_device::Proof};
        let begin = DeviceRegistration {
            registration_id: registration["registration_id"].as_str().unwrap().to_owned(),
            kind: Some(Kind::WebauthnCreationOptionsJson(registration["webauthn"].to_string())),
        };
        let device = person.new_key(&begin, self.world.origin());
        let Some(Proof::WebauthnCredentialJson(json)) = device.proof else { panic!("no credential") };
        let credential: Value = serde_json::from_str(&json).unwrap();
        json!({"registration_id": begin.registration_id, "name": name, "credential": credential})
    }
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).map_or(0, |code| code.parse().unwrap());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}
