"""An S3-compatible object store for the tests: moto's S3, served so that conditional writes are atomic.

    python s3_server.py PORT BUCKET

The log fences its writers with `PutObject` and `If-None-Match: *`: of any number of concurrent creates of one key exactly one
must succeed, and every other must get 412. moto evaluates the condition and stores the object in two steps, and its
own server handles requests in parallel threads, so two creates can both pass the condition. Here every request runs
under one lock, with its body read beforehand (a slow sender holds nobody up): condition and write are one step.

Known limitations: objects live in memory and are gone when the process ends; signatures are not verified; reads wait for writes.
"""

import io
import sys
import threading

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server


class OneAtATime:
    """WSGI middleware: reads the body, then runs the application and collects its answer under one lock."""

    def __init__(self, application):
        self.application = application
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        length = environ.get("CONTENT_LENGTH")
        if length:
            body = environ["wsgi.input"].read(int(length))
            if len(body) < int(length):
                # The sender is gone: half a body must never become an object.
                start_response("400 Bad Request", [("Content-Length", "0"), ("Connection", "close")])
                return []
            environ["wsgi.input"] = io.BytesIO(body)
        with self.lock:
            answer = self.application(environ, start_response)
            try:
                return [b"".join(answer)]
            finally:
                if hasattr(answer, "close"):
                    answer.close()


class Handler(MotoRequestHandler):
    """Keeps connections open between requests, as object stores do, and writes no line per request."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_arguments):
        pass


def main():
    port, bucket = int(sys.argv[1]), sys.argv[2]
    application = DomainDispatcherApplication(create_backend_app)
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(bucket, "us-east-1")
    server = make_server("127.0.0.1", port, OneAtATime(application), threaded=True, request_handler=Handler)
    print(f"listening on port {port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
