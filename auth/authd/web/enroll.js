// Enrolling a device: which kind, its name, and what proves it.

import { at, Cancelled, onPress, onSubmit, Over, show, write } from './page.js';
import * as key from './key.js';

const chosen = () => document.querySelector('input[name="kind"]:checked')?.value;

// `accepted` says which kinds the cluster takes. The first of them is chosen beforehand.
const offer = ({ webauthn, totp, passwordless }) => {
  const kinds = { webauthn, passkey: webauthn && passwordless, totp };
  let first = true;
  for (const [kind, possible] of Object.entries(kinds)) {
    at(`enroll-${kind}`).hidden = !possible;
    at(`kind-${kind}`).checked = Boolean(possible) && first;
    if (possible) first = false;
  }
};

const draw = ({ size, path }) => {
  at('totp-qr').setAttribute('viewBox', `0 0 ${size} ${size}`);
  at('totp-path').setAttribute('d', path);
};

const codeOf = (totp) =>
  new Promise((resolve, reject) => {
    draw(totp.qr);
    write('totp-secret', totp.secret.replaceAll(/(.{4})/g, '$1 ').trim());
    write('totp-account', `${totp.issuer}: ${totp.account}`);
    at('totp-code').value = '';
    onSubmit('totp-form', async () => resolve(at('totp-code').value));
    at('totp-cancel').onclick = () => reject(new Cancelled());
    show('totp');
  });

// Asks until `finish` has taken a device; resolves to what it answered. `null` to `finish` means no device.
export const enroll = (accepted, { title, why, begin, finish, skip = false, cancel = false }) => {
  offer(accepted);
  write('enroll-title', title);
  write('enroll-why', why);
  at('enroll-skip').hidden = !skip;
  at('enroll-cancel').hidden = !cancel;
  at('device-name').value = '';
  return new Promise((resolve, reject) => {
    onSubmit('enroll-form', async () => {
      const kind = chosen();
      if (!kind) throw new Error('Choose a kind of device.');
      const name = at('device-name').value.trim();
      const wish = { kind: kind === 'totp' ? 'totp' : 'webauthn', passwordless: kind === 'passkey' };
      try {
        const { registration_id, webauthn, totp } = await begin(wish);
        const proof = totp ? { code: await codeOf(totp) } : { credential: await key.create(webauthn) };
        resolve(await finish({ registration_id, name, ...proof }));
      } catch (error) {
        // Back to the choice: what was begun is used up or let go.
        if (!(error instanceof Over)) show('enroll');
        throw error;
      }
    });
    onPress('enroll-skip', async () => resolve(await finish(null)));
    at('enroll-cancel').onclick = () => {
      key.letGo();
      reject(new Cancelled());
    };
    show('enroll');
  });
};
