// What every page does: one section at a time, words for people, forms that say what went wrong.

export const at = (id) => document.getElementById(id);

export const write = (id, text) => {
  at(id).textContent = text;
};

// Shows one section and moves the focus to its heading, so that a screen reader begins there.
export const show = (id) => {
  at('loading').hidden = true;
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== id;
  at('problem').textContent = '';
  const heading = at(id).querySelector('h1');
  document.title = `${heading.textContent} · Touchstone`;
  heading.focus();
};

export const complain = (text) => {
  at('news').textContent = '';
  at('problem').textContent = text;
  if (text) at('problem').scrollIntoView({ block: 'nearest' });
};

export const announce = (text) => write('news', text);

// What is unknown, spent and expired looks the same.
export const gone = (hint) => {
  write('gone-hint', hint);
  show('gone');
  return new Over();
};

// Somebody changed their mind: nothing to say.
export class Cancelled extends Error {}

// The page said that all is over.
export class Over extends Error {}

const explain = (error) => {
  if (error instanceof Cancelled || error instanceof Over) return;
  complain(error.message);
  at('loading').hidden = true;
};

// Runs what a button started; meanwhile its form takes no second press.
export const run = async (buttons, act) => {
  complain('');
  const focused = document.activeElement;
  for (const button of buttons) {
    button.disabled = true;
    button.ariaBusy = 'true';
  }
  try {
    await act();
  } catch (error) {
    explain(error);
  } finally {
    for (const button of buttons) {
      button.disabled = false;
      button.ariaBusy = 'false';
    }
    // A button that is disabled loses the focus; who uses a keyboard goes on from where they were.
    if (document.activeElement === document.body && focused?.checkVisibility()) focused.focus();
  }
};

// The handler is replaced, not added to: sections are used more than once.
export const onSubmit = (id, act) => {
  at(id).onsubmit = (event) => {
    event.preventDefault();
    const submits = [...at(id).querySelectorAll('button:not([type="button"])')];
    run(submits, act);
  };
};

export const onPress = (id, act) => {
  at(id).onclick = () => run([at(id)], act);
};

export const begin = (act) => run([], act);

// The last part of the address: a token or an id.
export const idOfPage = () => decodeURIComponent(location.pathname.split('/').pop());

export const day = (millis) => new Date(millis).toLocaleDateString(undefined, { dateStyle: 'medium' });

export const when = (millis) => new Date(millis).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });

export const clock = (millis) => new Date(millis).toLocaleTimeString(undefined, { timeStyle: 'short' });

// What to type next: an option a line, so that none is broken in two.
export const tshLogin = (proxy, user, pin) =>
  [`tsh login --proxy=${proxy}`, `--user=${user}`, ...(pin ? [`--ca-pin=${pin}`] : [])].join(' \\\n  ');

export const make = (tag, text) => {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
};

export const signedInAs = (user, cluster) => {
  write('cluster', cluster);
  write('nav-user', user);
  at('nav').hidden = !user;
};
