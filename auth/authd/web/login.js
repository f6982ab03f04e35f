// Signing in.

import { at, begin, onSubmit, show, write } from './page.js';
import { call } from './call.js';
import { prove } from './prove.js';
import * as key from './key.js';

const enter = async (proof) => {
  await call('login/finish', { proof });
  location.replace('/web/devices');
};

const signIn = async () => {
  const user = at('login-user').value;
  try {
    const challenge = await call('login/begin', { user, password: at('login-password').value });
    const why = challenge.webauthn ? 'Touch your security key to sign in.' : 'Type the code that your app shows now.';
    const { proof } = await prove(challenge, { user, why });
    await enter(proof);
  } catch (error) {
    // A challenge is used up by one answer: it begins with the password again.
    show('login');
    at('login-password').value = '';
    at('login-password').focus();
    throw error;
  }
};

const withPasskey = async () => {
  const { challenge_id, webauthn } = await call('login/passwordless', {});
  await enter({ challenge_id, assertion: await key.get(webauthn) });
};

begin(async () => {
  onSubmit('login-form', signIn);
  onSubmit('passkey-form', withPasskey);
  const ping = await fetch('/webapi/ping').then((answer) => answer.json()).catch(() => null);
  write('cluster', ping?.cluster_name ?? '');
  at('passkey-form').hidden = !(ping?.auth.allow_passwordless && key.isPossible());
  show('login');
  at('login-user').focus();
});
