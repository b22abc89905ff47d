// Asks the node. Everything comes as JSON by GET; a token, if there is one, goes along in a header.

const KEPT = "toolring.token";
const PATIENCE = 12000;

export class NoToken extends Error {}
export class Refused extends Error {}

// A token may be in the fragment of the address, which never leaves the browser: take it out of there at once.
export function takeToken() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return false;
  try {
    keepToken(decodeURIComponent(found[1]));
  } catch {
    return false; // no token is written like that
  }
  history.replaceState(null, "", `${location.pathname}#/`);
  return true;
}

export function keepToken(token) {
  sessionStorage.setItem(KEPT, token);
}

export function hasToken() {
  return sessionStorage.getItem(KEPT) !== null;
}

export async function ask(view, query = {}) {
  const text = new URLSearchParams(query).toString();
  const token = sessionStorage.getItem(KEPT);
  const answer = await fetch(`/api/${view}${text ? `?${text}` : ""}`, {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    credentials: "omit",
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 401) throw new NoToken("the token is missing or wrong");
  const told = await answer.json();
  if (answer.status === 400 || answer.status === 404) throw new Refused(told.error.message);
  if (!answer.ok) throw new Error(told.error ? told.error.message : `the node answers ${answer.status}`);
  return told;
}
