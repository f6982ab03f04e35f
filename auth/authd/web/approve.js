// Approving one touch: what it is for, the number in the terminal, the key.

import { at, begin, clock, gone, idOfPage, make, onSubmit, run, show, when, write } from './page.js';
import { call } from './call.js';
import * as key from './key.js';

const HINT = 'Run your command in the terminal again for a new link.';
const id = idOfPage();
// tsh --mfa-mode=platform asks for this machine's own authenticator (WebAuthn Level 3, 5.8.7).
const HINTS = location.hash === '#this-machine' ? ['client-device'] : [];

const PROTOCOLS = { postgres: 'PostgreSQL', mysql: 'MySQL', ssh: 'SSH' };

const titleOf = ({ user, purpose, target }) => {
  if (target) return `Open a session on ${target.name}?`;
  const titles = {
    login: user ? `Log in as ${user}?` : 'Log in with your passkey?',
    devices: `Change the devices of ${user}?`,
    admin: `Run this as ${user}?`,
  };
  return titles[purpose] ?? 'Approve this?';
};

// Word, value, and what there is to say about it. What matters most comes first.
const factsOf = ({ user, cluster, purpose, target, command, address, same_address, time, expires }) => {
  const facts = [];
  if (purpose === 'admin') facts.push(['Command', command]);
  if (target) {
    facts.push(['Target', target.name, PROTOCOLS[target.protocol] ?? target.protocol], ['Login', target.login]);
    if (target.database) facts.push(['Database', target.database]);
  }
  facts.push(['Who', user ?? 'whoever has the passkey']);
  facts.push(['From', address, same_address ? 'this browser’s address' : 'not this browser’s address']);
  facts.push(['Asked', when(time), `good until ${clock(expires)}`], ['Cluster', cluster]);
  return facts;
};

const list = (facts) =>
  facts.flatMap(([word, value, note]) => {
    const said = make('dd', value);
    if (note) said.append(make('small', note));
    return [make('dt', word), said];
  });

const ended = (text) => {
  write('denied-text', text);
  show('denied');
};

// Ids that are over look all the same.
const orGone = async (calling) => {
  try {
    return await calling;
  } catch (error) {
    throw error.code === 'not_found' ? gone(HINT) : error;
  }
};

const touch = async ({ webauthn, pass }) => {
  const assertion = await key.get({ publicKey: { ...webauthn.publicKey, hints: HINTS } });
  await orGone(call('approve/answer', { id, pass, assertion }));
  show('approved');
};

const press = async (number) => {
  let pressed;
  try {
    pressed = await orGone(call('approve/number', { id, number }));
  } catch (error) {
    if (error.code !== 'permission_denied') throw error;
    ended(error.message);
    return;
  }
  onSubmit('touch-form', () => touch(pressed));
  show('touch');
  await touch(pressed);
};

const deny = async () => {
  key.letGo();
  await orGone(call('approve/deny', { id }));
  ended('Nothing was approved. If it was not you who asked, somebody may know your password: tell your administrator.');
};

const button = (number) => {
  const made = make('button', number);
  made.type = 'button';
  made.onclick = () => run([...at('numbers').children], () => press(number));
  return made;
};

begin(async () => {
  const asked = await orGone(call('approve/show', { id }));
  write('cluster', asked.cluster);
  write('ask-title', titleOf(asked));
  for (const id of ['facts', 'touch-facts']) at(id).replaceChildren(...list(factsOf(asked)));
  at('numbers').replaceChildren(...asked.numbers.map(button));
  onSubmit('deny-form', deny);
  onSubmit('touch-deny-form', deny);
  show('ask');
});
