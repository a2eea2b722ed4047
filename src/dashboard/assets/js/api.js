// Questions to the HTTP API. Addresses are relative to the page, so a proxy may add a prefix.

const base = location.pathname.replace(/[^/]*$/, ""), KEY = "desireline-token", JSON_TYPE = "application/json";

export const token = () => sessionStorage.getItem(KEY) || "";
export const setToken = (value) => sessionStorage.setItem(KEY, value);
export const headers = (extra) => (token() ? { ...extra, authorization: `Bearer ${token()}` } : extra);

class ApiError extends Error {
	constructor(status, body) {
		super(body?.detail || (status ? `the server answered ${status}` : "the server cannot be reached"));
		this.status = status;
		this.requestId = body?.request_id;
	}
}

export function address(path, query = {}) {
	const kept = new URLSearchParams(Object.entries(query).filter(([, value]) => (value ?? "") !== ""));
	return `${base}${path}${kept.size ? `?${kept}` : ""}`;
}

async function ask(url, options) {
	const answer = await fetch(url, { cache: "no-store", ...options }).catch((error) => {
		throw options.signal?.aborted ? error : new ApiError(0);
	});
	const body = await answer.json().catch(() => null);
	if (answer.ok) return body;
	if (answer.status === 401) dispatchEvent(new CustomEvent("denied"));
	throw new ApiError(answer.status, body);
}

export const get = (url, signal) => ask(url, { headers: headers(), signal });
export const post = (url, body = {}) => ask(url, { method: "POST", headers: headers({ "content-type": JSON_TYPE }), body: JSON.stringify(body) });

const auth = () => (token() ? "-H \"authorization: Bearer $TOKEN\" " : "");
export const curlFor = (url) => `curl ${auth()}'${location.origin}${url}'`;
export const curlPost = (path, body, method = "POST") => `curl -X ${method} ${auth()}-H 'content-type: ${JSON_TYPE}' '${location.origin}${address(path)}' -d '${JSON.stringify(body)}'`;
export const curlEvent = () => curlPost("api/ingest", { client_id: "me", page: "/home", event_type: "pageview" });
