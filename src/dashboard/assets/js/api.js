// Questions to the HTTP API, with the token when there is one. Addresses are relative to the page, so a proxy may
// serve everything below a prefix.

/** The folder of the page's address: `/` for `/dashboard`. */
export const base = location.pathname.replace(/[^/]*$/, "");

const KEY = "desireline-token";

export const token = () => sessionStorage.getItem(KEY) || "";
export const setToken = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));

export const headers = (extra = {}) => (token() ? { ...extra, authorization: `Bearer ${token()}` } : extra);

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.detail || (status ? `the server answered ${status}` : "the server cannot be reached"));
    this.status = status;
    this.code = body?.code || "";
    this.requestId = body?.request_id || "";
  }
}

/** `path` with its query, without empty values. */
export function address(path, query = {}) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") words.set(key, value);
  const tail = words.toString();
  return `${base}${path.replace(/^\//, "")}${tail ? `?${tail}` : ""}`;
}

async function ask(method, url, signal) {
  let answer;
  try {
    const extra = method === "GET" ? {} : { "content-type": "application/json", "x-requested-with": "desireline-dashboard" };
    answer = await fetch(url, { method, headers: headers({ accept: "application/json", ...extra }), body: method === "POST" ? "{}" : undefined, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0);
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) {
    if (answer.status === 401) dispatchEvent(new CustomEvent("denied"));
    throw new ApiError(answer.status, body);
  }
  return body;
}

export const get = (url, signal) => ask("GET", url, signal);
export const post = (url) => ask("POST", url);

/** A curl line for a GET of this address, or for the first event. */
export const curlFor = (url) => `curl ${token() ? "-H \"authorization: Bearer $TOKEN\" " : ""}'${location.origin}${url}'`;
export const curlFirstEvent = () =>
  `curl -X POST '${location.origin}${base}api/ingest'${token() ? " -H \"authorization: Bearer $TOKEN\"" : ""} -H 'content-type: application/json' -d '{"client_id":"me","page":"/home","event_type":"pageview"}'`;
