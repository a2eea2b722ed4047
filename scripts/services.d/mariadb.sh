# shellcheck shell=bash
# MariaDB: user, password and database `desireline` (loopback only). As root it runs as the package's user `mysql`.

mariadb_variable() { echo MARIADB_URL; }
mariadb_url() { echo "mysql://desireline:desireline@127.0.0.1:$(port mariadb)/desireline"; }
mariadb_exports() { echo "export MARIADB_URL=$1"; }

mariadb_start() {
    local folder prefix user
    folder=$(folder mariadb)
    user=$(id -un)
    if [ "$(id -u)" = 0 ]; then user=mysql; fi
    if [ ! -d "$folder/data/mysql" ]; then
        mkdir -p "$folder/data" "$folder/run"
        if [ "$(id -u)" = 0 ]; then chown -R mysql:mysql "$folder/data" "$folder/run"; fi
        mariadb-install-db --no-defaults --user="$user" --datadir="$folder/data" --auth-root-authentication-method=normal \
            --skip-test-db >>"$folder/log" 2>&1 </dev/null 9>&- || return 1
    fi
    read -ra prefix <<<"$(user_prefix mysql)"
    launch mariadb "${prefix[@]}" "$(command -v mariadbd)" --no-defaults --datadir="$folder/data" --socket="$folder/run/s" \
        --pid-file="$folder/run/pid" --bind-address=127.0.0.1 --port="$(port mariadb)" --skip-name-resolve \
        --innodb-buffer-pool-size=32M --innodb-flush-log-at-trx-commit=0 --performance-schema=OFF --max-connections=50 \
        --character-set-server=utf8mb4
}

mariadb_as_root() { mariadb --no-defaults --socket="$STATE/mariadb/run/s" --user=root "$@" </dev/null; }

mariadb_ready() { mariadb_as_root -e 'SELECT 1'; }

mariadb_prepare() {
    mariadb_as_root -e "CREATE DATABASE desireline CHARACTER SET utf8mb4;
        CREATE USER 'desireline'@'127.0.0.1' IDENTIFIED BY 'desireline';
        GRANT ALL ON \`desireline%\`.* TO 'desireline'@'127.0.0.1';"
}
