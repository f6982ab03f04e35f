// A lost device: password and recovery code, then a new device.

import { at, begin, make, onSubmit, show, tshLogin, write } from './page.js';
import { call } from './call.js';
import { enroll } from './enroll.js';
import { showCodes } from './codes.js';

const checkbox = (device) => {
  const line = document.createElement('p');
  line.className = 'choice';
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.id = `lost-${device.id}`;
  box.value = device.id;
  const label = make('label', device.name);
  label.htmlFor = box.id;
  line.append(box, label);
  return line;
};

const whatIsLost = (devices) => {
  at('lost-list').replaceChildren(...devices.map(checkbox));
  return new Promise((resolve) => {
    onSubmit('lost-form', async () => {
      resolve([...at('lost-list').querySelectorAll('input:checked')].map((box) => box.value));
    });
    show('lost');
  });
};

const recover = async () => {
  const granted = await call('recover/begin', {
    user: at('recover-user').value,
    password: at('recover-password').value,
    code: at('recover-code').value,
  });
  at('recover-form').reset();
  const { grant, user, devices } = granted;
  const lost = devices.length > 0 ? await whatIsLost(devices) : [];
  const { recovery_codes } = await enroll(granted, {
    title: 'Add your new device',
    why: 'When it is there, what you marked as lost is removed.',
    begin: (wish) => call('recover/register', { grant, ...wish }),
    finish: (device) => call('recover/device', { grant, device, lost }),
  });
  await showCodes(recovery_codes);
  write('done-text', `The account ${user} is yours again. Your logins from before have ended.`);
  write('done-command', tshLogin(location.host, user));
  show('done');
};

begin(async () => {
  onSubmit('recover-form', recover);
  show('recover');
});
