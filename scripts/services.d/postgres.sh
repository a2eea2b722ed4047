# shellcheck shell=bash
# PostgreSQL: user and database `desireline`, no password (loopback only). As root it runs as the package's user `postgres`.

postgres_variable() { echo DATABASE_URL; }
postgres_url() { echo "postgres://desireline@127.0.0.1:$(port postgres)/desireline"; }
postgres_exports() { echo "export DATABASE_URL=$1"; }

postgres_start() {
    local folder bin prefix
    folder=$(folder postgres)
    bin=$(postgres_bin)
    if [ ! -s "$folder/data/PG_VERSION" ]; then
        mkdir -p "$folder/data"
        if [ "$(id -u)" = 0 ]; then chown -R postgres:postgres "$folder/data"; fi
        as_user postgres "$bin/initdb" -D "$folder/data" -U desireline --auth=trust --encoding=UTF8 --locale=C --no-sync \
            >>"$folder/log" 2>&1 </dev/null 9>&- || return 1
    fi
    # A postmaster.pid left by SIGKILL may name a process id that another program has by now.
    rm -f "$folder/data/postmaster.pid"
    read -ra prefix <<<"$(user_prefix postgres)"
    launch postgres "${prefix[@]}" "$bin/postgres" -D "$folder/data" -c "port=$(port postgres)" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=32MB \
        -c max_connections=50
}

postgres_ready() {
    "$(postgres_bin)/psql" -X -q -h 127.0.0.1 -p "$(port postgres)" -U desireline -d postgres -c 'SELECT 1' </dev/null
}

postgres_prepare() { "$(postgres_bin)/createdb" -h 127.0.0.1 -p "$(port postgres)" -U desireline desireline; }
