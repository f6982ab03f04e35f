// One's own devices and recovery codes.

import { announce, at, begin, Cancelled, day, make, onSubmit, run, show, signedInAs, when, write } from './page.js';
import { call } from './call.js';
import { enroll } from './enroll.js';
import { prove } from './prove.js';
import { showCodes } from './codes.js';

const KINDS = { webauthn: 'Security key', totp: 'Authenticator app' };

const row = (device) => {
  const item = document.createElement('li');
  const about = document.createElement('div');
  const kind = device.passwordless ? 'Passkey' : KINDS[device.kind];
  const used = device.last_used ? `last used ${when(device.last_used)}` : 'not used yet';
  about.append(make('strong', device.name), make('small', kind), make('small', `Added ${day(device.added_at)}, ${used}`));
  const button = make('button', 'Remove');
  button.type = 'button';
  button.className = 'danger';
  button.setAttribute('aria-label', `Remove ${device.name}`);
  button.onclick = () => run([button], () => goOn(() => remove(device)));
  item.append(about, button);
  return item;
};

let account;

const list = async () => {
  account = await call('devices/list', {});
  signedInAs(account.user, account.cluster);
  at('devices-list').replaceChildren(...account.devices.map(row));
  at('devices-none').hidden = account.devices.length > 0;
  write('codes-left', String(account.recovery_codes));
  show('devices');
};

// Whatever comes of it, the list is what one sees afterwards.
const goOn = async (act) => {
  try {
    const news = await act();
    await list();
    announce(news);
  } catch (error) {
    await list();
    throw error;
  }
};

const proved = async (why, password) => prove(await call('devices/challenge', {}), { user: account.user, why, password });

const sure = (device) =>
  new Promise((resolve, reject) => {
    write('remove-name', device.name);
    onSubmit('remove-form', async () => resolve());
    at('remove-cancel').onclick = () => reject(new Cancelled());
    show('remove');
  });

const remove = async (device) => {
  await sure(device);
  const { proof } = await proved(`To remove “${device.name}”, prove that it is you.`, false);
  await call('devices/remove', { proof, device_id: device.id });
  return `“${device.name}” is removed.`;
};

const add = async () => {
  const { recovery_codes } = await enroll(account, {
    title: 'Add a device',
    why: account.devices.length > 0 ? 'First you are asked for one that you have.' : '',
    begin: async (wish) => {
      const proof = await proved('To add a device, prove that it is you.', true);
      const registration = await call('devices/begin', { ...proof, ...wish });
      show('enroll');
      return registration;
    },
    finish: (device) => call('devices/finish', { device }),
    cancel: true,
  });
  await showCodes(recovery_codes);
  return 'The device is added.';
};

const newCodes = async () => {
  const proof = await proved('For new recovery codes, prove that it is you.', true);
  const { recovery_codes } = await call('devices/codes', proof);
  await showCodes(recovery_codes);
  return 'Your old recovery codes are worth nothing now.';
};

begin(async () => {
  onSubmit('add-form', () => goOn(add));
  onSubmit('new-codes-form', () => goOn(newCodes));
  await list();
});
