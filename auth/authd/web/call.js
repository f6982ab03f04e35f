// Calls of authd: JSON both ways, to our own origin alone.

export class Failure extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const call = async (name, body) => {
  let response;
  try {
    response = await fetch(`/web/api/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      mode: 'same-origin',
      credentials: 'same-origin',
      redirect: 'error',
      cache: 'no-store',
    });
  } catch {
    throw new Failure(0, 'unavailable', 'The service does not answer. Try again.');
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const error = answer?.error ?? { code: 'unavailable', message: 'The service cannot answer now. Try again.' };
  if (error.code === 'not_signed_in') location.replace('/web/login');
  throw new Failure(response.status, error.code, sentence(error.message));
};

const sentence = (text) => {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(whole) ? whole : `${whole}.`;
};
