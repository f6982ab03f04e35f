// Recovery codes, shown this once.

import { announce, at, make, onPress, onSubmit, show } from './page.js';

// Resolves when the person says that they are kept.
export const showCodes = (codes) => {
  if (codes.length === 0) return Promise.resolve();
  at('codes-list').replaceChildren(...codes.map((code) => make('li', code)));
  onPress('codes-copy', async () => {
    try {
      await navigator.clipboard.writeText(codes.join('\n'));
    } catch {
      throw new Error('This browser does not let them be copied. Select them by hand.');
    }
    announce('Copied.');
  });
  return new Promise((resolve) => {
    onSubmit('codes-form', async () => {
      at('codes-list').replaceChildren();
      announce('');
      resolve();
    });
    show('codes');
  });
};
