//! Files of each kind. The first are those of the documentation page on per-session MFA, with the indentation that its
//! text form has lost.

pub(super) const PAGE_ROLES: &str = "\
# access-dev.yaml
kind: role
version: v6
metadata:
  name: access-dev
spec:
  allow:
    node_labels:
      env: dev
    logins:
      - jerry
---
# access-prod.yaml
kind: role
version: v6
metadata:
  name: access-prod
spec:
  options:
    # require per-session MFA for production access
    require_session_mfa: true
  allow:
    node_labels:
      env: prod
    logins:
      - jerry
  deny: {}
";

pub(super) const ACCESS_PROD_WRITTEN: &str = "\
kind: role
metadata:
  name: access-prod
spec:
  allow:
    logins:
    - jerry
    node_labels:
      env: prod
  deny: {}
  options:
    require_session_mfa: true
version: v6
";

pub(super) const PAGE_EXAMPLE_ROLE: &str = "\
kind: role
version: v6
metadata:
  name: example-role-with-mfa
spec:
  options:
    # require per-session MFA for this role
    require_session_mfa: true
  allow: {}
  deny: {}
";

pub(super) const PAGE_CAP: &str = "\
kind: cluster_auth_preference
metadata:
  name: cluster-auth-preference
spec:
  require_session_mfa: true
version: v2
";

pub(super) const PAGE_CAP_WRITTEN: &str = "\
kind: cluster_auth_preference
metadata:
  name: cluster-auth-preference
spec:
  allow_passwordless: true
  disconnect_expired_cert: false
  locking_mode: best_effort
  require_session_mfa: true
  second_factor: \"on\"
  type: local
version: v2
";

pub(super) const FULL_CAP: &str = "\
kind: cap
version: v2
metadata:
  name: cluster-auth-preference
  description: ours
  labels: {origin: dynamic}
  revision: '17'
spec:
  type: local
  second_factor: webauthn
  connector_name: passwordless
  webauthn:
    rp_id: example.com
    attestation_allowed_cas: []
    attestation_denied_cas: []
    disabled: false
  u2f: {app_id: 'https://example.com'}
  require_session_mfa: yes
  disconnect_expired_cert: yes
  allow_local_auth: true
  allow_passwordless: true
  allow_headless: false
  locking_mode: strict
  device_trust: {mode: 'off', auto_enroll: false}
  message_of_the_day: |
    Be kind.
    Touch your key.
  default_session_ttl: 12h
";

/// A role as `tctl get role/x` of Teleport 13 prints it.
pub(super) const EXPORTED_ROLE: &str = "\
kind: role
metadata:
  id: 1686000000000000000
  name: developer
  revision: 6f2c7f5e-3c5d-4a6e-9f2b-0a1b2c3d4e5f
spec:
  allow:
    app_labels:
      '*': '*'
    db_labels:
      env: [dev, 'staging-*']
    db_names:
    - '{{internal.db_names}}'
    db_service_labels:
      '*': '*'
    db_users:
    - '{{internal.db_users}}'
    impersonate:
      roles: null
    kubernetes_groups:
    - '{{internal.kubernetes_groups}}'
    kubernetes_labels:
      '*': '*'
    kubernetes_resources:
    - kind: pod
      name: '*'
      namespace: '*'
    logins:
    - '{{internal.logins}}'
    - ubuntu
    namespaces:
    - default
    node_labels:
      env: dev
    rules:
    - resources:
      - event
      verbs:
      - list
      - read
    - resources: [session]
      verbs: [list, read]
      where: contains(session.participants, user.metadata.name)
  deny:
    logins: null
  options:
    cert_format: standard
    create_host_user: false
    desktop_clipboard: true
    desktop_directory_sharing: true
    enhanced_recording:
    - command
    - network
    forward_agent: true
    idp:
      saml:
        enabled: true
    max_session_ttl: 30h0m0s
    pin_source_ip: false
    port_forwarding: true
    record_session:
      default: best_effort
      desktop: true
    ssh_file_copy: true
version: v6
";

pub(super) const FULL_ROLE: &str = "\
kind: role
version: v5
metadata:
  name: full
  description: 'Everything: said'
  labels: {team: red, 'a b': ''}
  expires: '2030-01-02T03:04:05Z'
spec:
  options:
    max_session_ttl: 8h
    forward_agent: yes
    port_forwarding: no
    ssh_file_copy: off
    permit_x11_forwarding: true
    client_idle_timeout: never
    disconnect_expired_cert: true
    max_sessions: 3
    max_connections: 0
    require_session_mfa: 'yes'
    mfa_verification_interval: 1h30m
    lock: strict
    pin_source_ip: yes
    record_session: {default: strict, ssh: best_effort, desktop: false}
    db_session_settings: {statement_timeout: 30s, default_transaction_read_only: on, work_mem: 4096, app.user: 'null'}
    db_replication: no
    db_local_infile: yes
    device_trust_mode: optional
    max_kubernetes_connections: 2
    cert_extensions:
      - {type: ssh, mode: extension, name: login@github.com, value: '{{external.github}}'}
  allow:
    logins: ['{{internal.logins}}', root]
    db_users: ['*']
    db_names: [app]
    node_labels: {'*': '*'}
    db_labels: {env: [dev, 'us-*', '^a|b$']}
    rules:
      - {resources: ['*'], verbs: ['*'], where: 'true', actions: ['log(\"info\", \"x\")']}
  deny:
    logins: [admin]
    db_users: [root, '{{external.x}}']
    db_names: [mysql]
    node_labels: {}
    db_labels: {secret: 'yes'}
    rules: [{resources: [users], verbs: [delete]}]
    windows_desktop_logins: [Administrator]
";

pub(super) const USER: &str = "\
kind: user
version: v2
metadata:
  name: jerry
spec:
  roles: [access-dev, access-prod]
  traits:
    logins: [jerry]
    db_users: jerry
    db_names: ['*']
    odd name: []
  status: {is_locked: true, lock_expires: '2030-01-01T00:00:00Z', locked_message: too many attempts}
  created_by: {user: {name: olga}, time: '2023-06-01T00:00:00Z'}
";

pub(super) const TOKEN: &str = "\
kind: token
version: v2
metadata:
  name: 5e0cdb6c29dd3d9b
  expires: '2023-06-01T00:00:00Z'
spec:
  roles: [Node, Db]
  join_method: token
  allow: []
";

pub(super) const LOCK: &str = "\
kind: lock
version: v2
metadata:
  name: dc7cee9d-fe5e-4534-a90d-db770f0234a1
spec:
  target:
    user: foo@example.com
    mfa_device: d3a1a9d2-6d6b-4f8e-9a43-0c5e0b1f2a33
    login: root
  message: Suspicious activity.
  expires: '2021-08-14T22:27:00Z'
  created_by: olga
";

pub(super) const DATABASE: &str = "\
kind: db
version: v3
metadata:
  name: prod-pg
  labels: {env: prod}
spec:
  protocol: postgres
  uri: db.internal:5432
  tls: {mode: verify-full}
";

pub(super) const NODE: &str = "\
kind: node
version: v2
sub_kind: openssh
metadata:
  name: 3d9d3ff0-8b1a-4b6e-b7d0-6a9d6b0f3c1e
  labels: {env: prod}
spec:
  addr: 10.0.0.7:22
  hostname: web-7
  public_addrs: ['web-7.example.com:22']
  use_tunnel: false
";
