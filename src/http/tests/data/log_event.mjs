// Runs the helper of docs/interactions.md, given as the path of a module, against a server that is played by `fetch`.

import assert from 'node:assert/strict';

const { logEvent } = await import(process.argv[2]);
const warnings = [];
console.warn = (...words) => warnings.push(words);
const requests = [];
let answer;
globalThis.fetch = async (url, options) => {
  requests.push({ url, ...options });
  return answer();
};

answer = () => new Response('{"success":true}', { status: 200 });
assert.equal(await logEvent(1, 'B1', 'view', { page: 'product_detail' }), true);
assert.equal(await logEvent(1, 'B1', 'click'), true);
const [first, second] = requests;
assert.ok(first.url.endsWith('/api/event'));
assert.equal(first.method, 'POST');
assert.equal(first.keepalive, true);
assert.equal(first.headers['Content-Type'], 'application/json');
assert.notEqual(first.headers['Idempotency-Key'], second.headers['Idempotency-Key']);
assert.deepEqual(JSON.parse(first.body), { user_id: 1, asin: 'B1', event_type: 'view', metadata: { page: 'product_detail' } });
assert.deepEqual(JSON.parse(second.body), { user_id: 1, asin: 'B1', event_type: 'click' });
assert.equal(warnings.length, 0);

answer = () => new Response('{"code":"busy"}', { status: 429 });
assert.equal(await logEvent(1, 'B1', 'view'), false);
answer = () => { throw new TypeError('fetch failed'); };
assert.equal(await logEvent(1, 'B1', 'view'), false);
assert.equal(warnings.length, 2, 'what went wrong is told, not thrown');
