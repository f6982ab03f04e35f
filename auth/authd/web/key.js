// Security keys: the JSON of authd to what browsers take, and back (WebAuthn Level 2, 5.1).

import { Cancelled } from './page.js';

const bytes = (text) => {
  const base64 = text.replaceAll('-', '+').replaceAll('_', '/');
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
};

const text = (buffer) => {
  const binary = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join('');
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
};

const named = (list) => (list ?? []).map((credential) => ({ ...credential, id: bytes(credential.id) }));

export const isPossible = () => Boolean(window.PublicKeyCredential && navigator.credentials);

const words = {
  NotAllowedError: 'No key of yours answered: not touched in time, not the right one, or cancelled. Try again.',
  InvalidStateError: 'This device is registered already. Use another one.',
  SecurityError: 'This browser does not let this address ask for keys. Open the page under its proper name.',
  NotSupportedError: 'This device cannot do what is asked for. Use another one.',
  ConstraintError: 'This device cannot ask for a PIN or a fingerprint. Set one up, or use another device.',
};

// What is being asked. A browser takes one question at a time: another one, or a person who cancels, lets go of it.
let pending = new AbortController();

export const letGo = () => pending.abort();

const asking = async (ask) => {
  if (!isPossible()) throw new Error('This browser knows no security keys.');
  letGo();
  pending = new AbortController();
  const { signal } = pending;
  try {
    return await ask(signal);
  } catch (error) {
    if (signal.aborted) throw new Cancelled();
    throw new Error(words[error.name] ?? 'The key could not be asked. Try again.');
  }
};

// A new credential.
export const create = async ({ publicKey }) => {
  const options = {
    ...publicKey,
    challenge: bytes(publicKey.challenge),
    user: { ...publicKey.user, id: bytes(publicKey.user.id) },
    excludeCredentials: named(publicKey.excludeCredentials),
  };
  const made = await asking((signal) => navigator.credentials.create({ publicKey: options, signal }));
  return {
    id: made.id,
    rawId: text(made.rawId),
    type: made.type,
    response: {
      attestationObject: text(made.response.attestationObject),
      clientDataJSON: text(made.response.clientDataJSON),
      transports: made.response.getTransports?.() ?? [],
    },
    extensions: made.getClientExtensionResults(),
  };
};

// An assertion.
export const get = async ({ publicKey }) => {
  const options = {
    ...publicKey,
    challenge: bytes(publicKey.challenge),
    allowCredentials: named(publicKey.allowCredentials),
  };
  const given = await asking((signal) => navigator.credentials.get({ publicKey: options, signal }));
  const { authenticatorData, clientDataJSON, signature, userHandle } = given.response;
  return {
    id: given.id,
    rawId: text(given.rawId),
    type: given.type,
    response: {
      authenticatorData: text(authenticatorData),
      clientDataJSON: text(clientDataJSON),
      signature: text(signature),
      userHandle: userHandle ? text(userHandle) : null,
    },
    extensions: given.getClientExtensionResults(),
  };
};
