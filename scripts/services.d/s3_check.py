#!/usr/bin/env python3
"""Checks that an object store's conditional creates are atomic, which fencing depends on.

    python3 s3_check.py ENDPOINT BUCKET [ROUNDS]

In every round 20 threads create one absent key with `If-None-Match: *` at the same moment: exactly one must get 200 and 19
must get 412, and the stored body must be the winner's. Exit 0 and one line, or exit 1 and the first failure. The keys come
from DESIRELINE_TEST_S3_ACCESS_KEY and DESIRELINE_TEST_S3_SECRET_KEY.
"""

import datetime
import hashlib
import hmac
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid

WRITERS = 20
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def signed(method, url, body, headers):
    """The headers of a request with AWS signature version 4 (region us-east-1, service s3)."""
    parts = urllib.parse.urlsplit(url)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    body_hash = hashlib.sha256(body).hexdigest()
    headers = {**headers, "host": parts.netloc, "x-amz-date": now, "x-amz-content-sha256": body_hash}
    names = sorted(headers, key=str.lower)
    signed_names = ";".join(name.lower() for name in names)
    lines = [f"{name.lower()}:{headers[name]}" for name in names]
    canonical = "\n".join([method, parts.path, parts.query, *lines, "", signed_names, body_hash])
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + os.environ.get("DESIRELINE_TEST_S3_SECRET_KEY", "desireline-secret")).encode()
    for step in (now[:8], "us-east-1", "s3", "aws4_request", text):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    credential = os.environ.get("DESIRELINE_TEST_S3_ACCESS_KEY", "desireline") + "/" + scope
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed_names}, Signature={key.hex()}"
    return headers


def request(method, url, body=b"", headers=None):
    headers = signed(method, url, body, {"content-type": "application/octet-stream", **(headers or {})})
    try:
        with OPENER.open(urllib.request.Request(url, data=body or None, method=method, headers=headers), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def one_round(base):
    url = f"{base}/check-{uuid.uuid4().hex}"
    start = threading.Barrier(WRITERS)
    statuses = [0] * WRITERS

    def create(writer):
        start.wait()
        statuses[writer], _ = request("PUT", url, (b"%08d" % writer) * 4096, {"If-None-Match": "*"})

    threads = [threading.Thread(target=create, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [writer for writer in range(WRITERS) if statuses[writer] == 200]
    if len(winners) != 1 or statuses.count(412) != WRITERS - 1:
        return f"{len(winners)} of {WRITERS} creates of one key succeeded, statuses {sorted(statuses)}"
    if request("GET", url) != (200, (b"%08d" % winners[0]) * 4096):
        return "the stored object is not the winner's"
    request("DELETE", url)
    return None


def main():
    base = f"{sys.argv[1]}/{sys.argv[2]}"
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    failures = [failure for failure in (one_round(base) for _ in range(rounds)) if failure]
    if failures:
        sys.exit(f"conditional creates are not atomic: in {len(failures)} of {rounds} rounds; the first: {failures[0]}")
    print(f"conditional creates are atomic: {rounds} rounds of {WRITERS} writers, one winner each")


if __name__ == "__main__":
    main()
