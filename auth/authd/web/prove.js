// Answering a challenge: by a key, by a code, or by the password where there is no device yet.

import { at, Cancelled, onSubmit, show, write } from './page.js';
import * as key from './key.js';

// Resolves to {proof, password}. The name is for password managers.
export const prove = (challenge, { user, why, password = false }) => {
  const { challenge_id, webauthn, totp, none_required } = challenge;
  if (none_required && !password) return Promise.resolve({ proof: { challenge_id }, password: null });
  write('prove-why', why);
  at('prove-key').hidden = !webauthn;
  at('prove-code').hidden = !totp;
  at('prove-password').hidden = !none_required;
  for (const input of at('prove').querySelectorAll('input')) input.value = '';
  at('prove-user').value = user;
  return new Promise((resolve, reject) => {
    onSubmit('prove-key', async () => {
      const assertion = await key.get(webauthn);
      resolve({ proof: { challenge_id, assertion }, password: null });
    });
    onSubmit('prove-code', async () => {
      resolve({ proof: { challenge_id, code: at('prove-code-input').value }, password: null });
    });
    onSubmit('prove-password', async () => {
      resolve({ proof: { challenge_id }, password: at('prove-password-input').value });
    });
    at('prove-cancel').onclick = () => {
      key.letGo();
      reject(new Cancelled());
    };
    show('prove');
  });
};
