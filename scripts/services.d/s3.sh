# shellcheck shell=bash
# An S3-compatible object store with atomic conditional writes; see s3_server.py for what it is and why.

s3_variable() { echo DESIRELINE_TEST_S3_ENDPOINT; }
s3_url() { echo "http://127.0.0.1:$(port s3)"; }

s3_exports() {
    echo "export DESIRELINE_TEST_S3_ENDPOINT=$1"
    echo "export DESIRELINE_TEST_S3_ACCESS_KEY=${DESIRELINE_TEST_S3_ACCESS_KEY:-desireline}"
    echo "export DESIRELINE_TEST_S3_SECRET_KEY=${DESIRELINE_TEST_S3_SECRET_KEY:-desireline-secret}"
}

s3_start() {
    folder s3 >/dev/null
    launch s3 "$S3_PYTHON" "$HERE/services.d/s3_server.py" "$(port s3)" desireline-test
}

# The server makes the bucket before it listens, so a listed bucket means: everything is there.
s3_ready() { curl --silent --fail --noproxy '*' --max-time 2 "$(s3_url)/desireline-test?list-type=2"; }

s3_prepare() { :; }
