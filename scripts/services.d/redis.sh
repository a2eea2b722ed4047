# shellcheck shell=bash
# Redis with an append-only file, so that `kill` and `restart` keep the data.

redis_variable() { echo REDIS_URL; }
redis_url() { echo "redis://127.0.0.1:$(port redis)/0"; }
redis_exports() { echo "export REDIS_URL=$1"; }

redis_start() {
    local folder
    folder=$(folder redis)
    mkdir -p "$folder/data"
    launch redis redis-server --port "$(port redis)" --bind 127.0.0.1 --dir "$folder/data" --save "" \
        --appendonly yes --appendfsync no --daemonize no
}

redis_ready() { [ "$(redis-cli -h 127.0.0.1 -p "$(port redis)" ping </dev/null)" = PONG ]; }

redis_prepare() { :; }
