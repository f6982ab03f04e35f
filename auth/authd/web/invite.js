// Finishing an invitation: password, device, recovery codes.

import { at, begin, gone, idOfPage, onSubmit, show, tshLogin, write } from './page.js';
import { call } from './call.js';
import { enroll } from './enroll.js';
import { showCodes } from './codes.js';

const HINT = 'Ask your administrator for a new invitation.';
const token = idOfPage();
// The authority's pin, as the link has it: by that, tsh knows whom it talks to the first time.
const pin = location.hash.match(/^#ca-pin=(sha256:[0-9a-f]{64})$/)?.[1];

const overIfGone = async (calling) => {
  try {
    return await calling;
  } catch (error) {
    throw error.code === 'not_found' ? gone(HINT) : error;
  }
};

const choosePassword = () =>
  new Promise((resolve) => {
    onSubmit('password-form', async () => {
      const password = at('password-input').value;
      const same = password === at('password-again').value;
      at('password-again').ariaInvalid = String(!same);
      if (!same) {
        at('password-again').focus();
        throw new Error('The two passwords are not the same.');
      }
      resolve(password);
    });
    show('password');
  });

const accept = (password) => (device) => overIfGone(call('invite/accept', { token, password, device }));

const addDevice = (invitation, password) => {
  if (!invitation.webauthn && !invitation.totp) return accept(password)(null);
  return enroll(invitation, {
    title: 'Add your device',
    why: 'You touch it, or read a code from it, when you log in and when you open a session.',
    begin: (wish) => overIfGone(call('invite/begin', { token, ...wish })),
    finish: accept(password),
    skip: !invitation.device_required,
  });
};

begin(async () => {
  const invitation = await overIfGone(call('invite/show', { token }));
  write('user', invitation.user);
  write('cluster', invitation.cluster);
  at('username').value = invitation.user;
  const password = await choosePassword();
  const { user, proxy, recovery_codes } = await addDevice(invitation, password);
  await showCodes(recovery_codes);
  write('done-text', `The account ${user} is yours.`);
  write('done-command', tshLogin(proxy, user, pin));
  show('done');
});
