// One's own devices and recovery codes.

import { announce, at, begin, Cancelled, complain, day, make, onSubmit, run, show, signedInAs, when, write } from './page.js';
import { call } from './call.js';
import { enroll } from './enroll.js';
import { prove } from './prove.js';
import { showCodes } from './codes.js';

const KINDS = { webauthn: 'Security key', totp: 'Authenticator app' };

const press = (text, device, style, act) => {
  const button = make('button', text);
  button.type = 'button';
  button.className = style;
  button.setAttribute('aria-label', `${text} ${device.name}`);
  button.onclick = act;
  return button;
};

const row = (device) => {
  const item = document.createElement('li');
  const about = document.createElement('div');
  const kind = device.passwordless ? 'Passkey' : KINDS[device.kind];
  const used = device.last_used ? `last used ${when(device.last_used)}` : 'not used yet';
  about.append(make('strong', device.name), make('small', kind), make('small', `Added ${day(device.added_at)}, ${used}`));
  const acts = document.createElement('span');
  const removal = press('Remove', device, 'danger', () => run([removal], () => goOn(() => remove(device))));
  acts.append(press('Rename', device, 'plain', () => rename(device, item)), removal);
  item.append(about, acts);
  return item;
};

// In the place of a row, a field for the name. Enter saves and Escape leaves it; then the focus is on “Rename” again.
const rename = (device, item) => {
  complain('');
  const form = at('rename').content.firstElementChild.cloneNode(true);
  const [label, input, wrong, ...buttons] = form.querySelectorAll('label, input, small, button');
  label.textContent = `New name for “${device.name}”`;
  label.htmlFor = input.id = `name-${device.id}`;
  wrong.id = `wrong-${device.id}`;
  input.setAttribute('aria-describedby', wrong.id);
  input.value = device.name;
  const close = (named) => {
    const after = row(named);
    item.replaceWith(after);
    after.querySelector('button').focus();
  };
  const save = async () => {
    const name = input.value.trim();
    wrong.textContent = '';
    try {
      await call('devices/rename', { device_id: device.id, name });
    } catch (error) {
      input.ariaInvalid = 'true';
      wrong.textContent = error.message;
      input.focus();
      return;
    }
    close({ ...device, name });
    announce(`“${device.name}” is now “${name}”.`);
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    run(buttons, save);
  };
  const cancel = buttons[1];
  cancel.onclick = () => close(device);
  // A name that is being composed has an Escape of its own; while it is saved, “Cancel” is disabled and takes no press.
  form.onkeydown = (event) => {
    if (event.key === 'Escape' && !event.isComposing) cancel.click();
  };
  item.replaceChildren(form);
  input.focus();
  input.select();
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
