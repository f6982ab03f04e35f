//! Every call × every kind of caller.

use auth::{
    api::touch,
    proto::{
        self, admin_client::AdminClient, public_client::PublicClient, sidecars_client::SidecarsClient,
        users_client::UsersClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::world::*;

/// What became of the caller, not of the call: an empty request is wrong for many other reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    NotLoggedIn,
    OtherCaller,
    SessionCertificate,
    BadCertificate,
    NoRule,
    NeedsTouch,
}
use Door::*;

fn door<T>(result: Result<T, Status>) -> Door {
    let Err(status) = result else { return Open };
    match status.message() {
        text if text.starts_with("not logged in") => NotLoggedIn,
        text if text.starts_with("this call is for a") => OtherCaller,
        text if text.starts_with("a session certificate opens") => SessionCertificate,
        text if text.starts_with("client certificate refused") => BadCertificate,
        text if text.starts_with("access denied to perform action") => NoRule,
        _ if touch::is_needed(&status) => NeedsTouch,
        _ => Open,
    }
}

struct Callers {
    nobody: Channel,
    user: Channel,
    editor: Channel,
    session: Channel,
    sidecar: Channel,
    foreign: Channel,
}

impl Callers {
    async fn new(world: &World) -> Self {
        let guard = world.guard("pg", &[]).await;
        let mut user = world.person_with_totp("user-person", &["access"]).await;
        let mut editor = world.person_with_totp("editor-person", &["editor"]).await;
        world.login(&mut user).await;
        world.login(&mut editor).await;
        let key = Key::new();
        let request = proto::IssueSessionCertificateRequest {
            route: Some(route("pg")),
            public_key: key.spki.clone(),
            ..Default::default()
        };
        let mut users = world.users(user.identity()).await;
        let issued = users.issue_session_certificate(request).await.unwrap().into_inner();
        let elsewhere = World::new().await;
        let mut stranger = elsewhere.person_with_totp("user-person", &["access"]).await;
        elsewhere.login(&mut stranger).await;
        Self {
            nobody: world.channel(None).await,
            user: world.channel(Some(user.identity())).await,
            editor: world.channel(Some(editor.identity())).await,
            session: world.channel(Some(key.with(issued.certificate))).await,
            sidecar: world.channel(Some(guard.identity())).await,
            foreign: world.channel(Some(stranger.identity())).await,
        }
    }
}

/// Calls one RPC as everybody, in the order of the fields of [`Callers`].
macro_rules! check {
    ($callers:expr, $client:ident . $rpc:ident ($request:expr), $expected:expr) => {{
        let mut doors = Vec::new();
        for channel in [
            &$callers.nobody,
            &$callers.user,
            &$callers.editor,
            &$callers.session,
            &$callers.sidecar,
            &$callers.foreign,
        ] {
            doors.push(door($client::new(channel.clone()).$rpc($request).await));
        }
        assert_eq!(doors, $expected, "{}", stringify!($client.$rpc));
    }};
}

#[tokio::test]
async fn every_call_takes_its_callers_and_no_others() {
    let world = World::new().await;
    let callers = Callers::new(&world).await;
    use proto::*;

    let public = [Open, Open, Open, Open, Open, BadCertificate];
    check!(callers, PublicClient.ping(PingRequest {}), public);
    check!(callers, PublicClient.get_invitation(GetInvitationRequest::default()), public);
    check!(callers, PublicClient.begin_invitation(BeginInvitationRequest::default()), public);
    check!(callers, PublicClient.accept_invitation(AcceptInvitationRequest::default()), public);
    check!(callers, PublicClient.begin_login(BeginLoginRequest::default()), public);
    check!(callers, PublicClient.finish_login(FinishLoginRequest::default()), public);
    check!(callers, PublicClient.begin_passwordless_login(BeginPasswordlessLoginRequest {}), public);
    check!(callers, PublicClient.begin_browser_mfa(BeginBrowserMfaRequest::default()), public);
    check!(callers, PublicClient.await_browser_mfa(AwaitBrowserMfaRequest::default()), public);
    check!(callers, PublicClient.join(JoinRequest::default()), public);

    let users = [NotLoggedIn, Open, Open, SessionCertificate, OtherCaller, BadCertificate];
    check!(callers, UsersClient.list_targets(ListTargetsRequest::default()), users);
    check!(callers, UsersClient.is_mfa_required(IsMfaRequiredRequest::default()), users);
    check!(callers, UsersClient.create_challenge(CreateChallengeRequest::default()), users);
    check!(callers, UsersClient.issue_session_certificate(IssueSessionCertificateRequest::default()), users);
    check!(callers, UsersClient.list_mfa_devices(ListMfaDevicesRequest {}), users);
    check!(callers, UsersClient.begin_add_mfa_device(BeginAddMfaDeviceRequest::default()), users);
    check!(callers, UsersClient.finish_add_mfa_device(FinishAddMfaDeviceRequest::default()), users);
    check!(callers, UsersClient.delete_mfa_device(DeleteMfaDeviceRequest::default()), users);

    check!(callers, UsersClient.list_recordings(ListRecordingsRequest::default()), users);
    check!(callers, UsersClient.get_recording(GetRecordingRequest::default()), users);

    let sidecars = [NotLoggedIn, OtherCaller, OtherCaller, OtherCaller, Open, BadCertificate];
    check!(callers, SidecarsClient.renew_certificate(SidecarCertificateRequest::default()), sidecars);
    check!(callers, SidecarsClient.watch(WatchRequest {}), sidecars);
    check!(callers, SidecarsClient.announce(AnnounceRequest::default()), sidecars);
    check!(
        callers,
        SidecarsClient.issue_upstream_certificate(IssueUpstreamCertificateRequest::default()),
        sidecars
    );
    check!(
        callers,
        SidecarsClient.issue_upstream_ssh_certificate(IssueUpstreamSshCertificateRequest::default()),
        sidecars
    );
    check!(callers, SidecarsClient.verify_otp(VerifyOtpRequest::default()), sidecars);
    check!(callers, SidecarsClient.upload_recording(tokio_stream::empty()), sidecars);
    check!(callers, SidecarsClient.emit_audit(EmitAuditRequest::default()), sidecars);

    let json = r#"{"kind":"role","version":"v7","metadata":{"name":"r"},"spec":{}}"#.to_owned();
    let put =
        PutResourceRequest { resource: Some(Resource { json, ..Default::default() }), ..Default::default() };
    let get = GetResourcesRequest { kind: "role".into(), ..Default::default() };
    let delete = DeleteResourceRequest { kind: "role".into(), name: "none".into() };
    let change = [NotLoggedIn, NoRule, NeedsTouch, SessionCertificate, OtherCaller, BadCertificate];
    let admin = [NotLoggedIn, NoRule, Open, SessionCertificate, OtherCaller, BadCertificate];
    // What every user must know of the cluster, the implicit role lets every user read.
    let known = [NotLoggedIn, Open, Open, SessionCertificate, OtherCaller, BadCertificate];
    check!(callers, AdminClient.status(StatusRequest {}), known);
    check!(callers, AdminClient.add_user(AddUserRequest::default()), change);
    check!(callers, AdminClient.reset_user(ResetUserRequest::default()), change);
    check!(callers, AdminClient.put_resource(put.clone()), change);
    check!(callers, AdminClient.get_resources(get.clone()), admin);
    check!(callers, AdminClient.delete_resource(delete.clone()), change);
    check!(callers, AdminClient.add_token(AddTokenRequest::default()), change);
    // An editor signs nothing: who can make a database's certificate can pose as the database.
    let root_alone = [NotLoggedIn, NoRule, NoRule, SessionCertificate, OtherCaller, BadCertificate];
    check!(
        callers,
        AdminClient.sign_database_certificate(SignDatabaseCertificateRequest::default()),
        root_alone
    );
    check!(callers, AdminClient.rotate_authority(RotateAuthorityRequest::default()), root_alone);
    check!(callers, AdminClient.list_authorities(ListAuthoritiesRequest::default()), known);
    check!(callers, AdminClient.list_all_targets(ListTargetsRequest::default()), admin);
    check!(callers, AdminClient.list_all_recordings(ListRecordingsRequest::default()), admin);
    check!(callers, AdminClient.explain_access(ExplainAccessRequest::default()), admin);
    check!(callers, AdminClient.list_audit(ListAuditRequest::default()), admin);
}
