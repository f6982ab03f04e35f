// Signing out: a button, so that no link of somebody else can do it.

import { begin, onSubmit, show } from './page.js';
import { call } from './call.js';

begin(async () => {
  onSubmit('logout-form', async () => {
    await call('logout', {});
    show('out');
  });
  show('logout');
});
