//! What proves that somebody may change the set of their devices, in a terminal and in a browser alike.

use std::net::IpAddr;

use auth::{identity::UserName, proto};
use zeroize::Zeroizing;

use super::Scope;
use crate::{
    cluster::Cluster,
    error::Refused,
    mfa::{Answer, Proof},
};

impl Cluster {
    /// Spends a challenge for a change of devices, and judges its answer: a login or a session alone changes none, since it
    /// may be stolen.
    pub(crate) async fn prove_for_devices(
        &self,
        user: &UserName,
        challenge_id: &str,
        response: Option<proto::MfaResponse>,
    ) -> Result<Proof, Refused> {
        let challenge = self.spend_challenge(user, challenge_id).await?;
        if !matches!(challenge.scope, Scope::ManageDevices) {
            return Err(Refused::Challenge);
        }
        let answer = Answer::from_proto(response)?;
        self.judge_answer(user, &challenge, &answer).await
    }

    /// As [`prove_for_devices`](Self::prove_for_devices), where something is gained by it: who has no device yet proves
    /// that it is they by the password.
    pub(crate) async fn prove_to_add(
        &self,
        user: &UserName,
        challenge_id: &str,
        response: Option<proto::MfaResponse>,
        password: Zeroizing<String>,
        client: IpAddr,
    ) -> Result<(), Refused> {
        let proof = self.prove_for_devices(user, challenge_id, response).await?;
        if proof.device().is_none() {
            self.prove_by_password(user, password, client).await?;
        }
        Ok(())
    }
}
