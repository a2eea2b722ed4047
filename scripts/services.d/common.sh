# shellcheck shell=bash
# What all services share: messages, the state folder, ports, processes, waiting.
#
# One folder per service under $STATE: `port`, `url`, `pid` ("process-id start-time"), `log`, `data/`.

say() { echo "services: $*" >&2; }

die() {
    echo "services: $*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# One `scripts/services` at a time changes the state of a folder. Daemons get descriptor 9 closed, else they would hold the lock.
with_lock() {
    exec 9>"$STATE.lock"
    flock -w 600 9 || die "another scripts/services holds $STATE.lock"
}

# The folder of a service, made on first use. World-readable: PostgreSQL and MariaDB may run as another user.
folder() {
    local name=$1
    mkdir -p "$STATE/$name"
    chmod 755 "$STATE" "$STATE/$name"
    touch "$STATE/$name/log"
    echo "$STATE/$name"
}

recorded() { cat "$STATE/$1/url" 2>/dev/null || true; }

listening() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Whether a TCP connection to the host and port of a URL (or of the first broker of a list) succeeds.
answers_at() {
    local place=${1%%,*}
    place=${place#*://}
    place=${place##*@}
    place=${place%%/*}
    listening "${place%:*}" "${place##*:}"
}

# The port of a service; a second name gives a second port. Chosen once, then kept with the state, so that a restart reuses it.
port() {
    local file="$STATE/$1/${2:-port}" candidate
    if [ ! -s "$file" ]; then
        while :; do
            candidate=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
            listening 127.0.0.1 "$candidate" && continue
            grep -qsx "$candidate" "$STATE"/*/*port && continue
            break
        done
        echo "$candidate" >"$file"
    fi
    cat "$file"
}

# The time at which the kernel started a process, in clock ticks since boot: with it a process id names one process for ever.
start_time() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The command name may hold spaces and parentheses; fields are counted after the last ')': the state, and 19 further on the time.
    read -ra fields <<<"${stat##*) }"
    [ "${fields[0]}" != Z ] || return 1
    echo "${fields[19]}"
}

pid_of() {
    local pid started
    read -r pid started 2>/dev/null <"$STATE/$1/pid" || return 1
    [ "$(start_time "$pid" || true)" = "$started" ] || return 1
    echo "$pid"
}

running() { pid_of "$1" >/dev/null 2>&1; }

# Start a daemon in its own session (so that its process group can be signalled as one) and remember it.
launch() {
    local name=$1 pid
    shift
    setsid "$@" >>"$STATE/$name/log" 2>&1 </dev/null 9>&- &
    pid=$!
    disown
    echo "$pid $(start_time "$pid" || echo gone)" >"$STATE/$name/pid"
}

signal_group() {
    local pid
    pid=$(pid_of "$1") || return 0
    kill -s "$2" -- "-$pid" 2>/dev/null || kill -s "$2" "$pid" 2>/dev/null || true
}

# Stop a service with a signal; whatever is left after 20 s gets SIGKILL. Returns when the process is gone.
stop_process() {
    local name=$1 signal=$2 pid tries=0
    pid=$(pid_of "$name") || {
        rm -f "$STATE/$name/pid"
        return 0
    }
    say "$name: stopping ($signal)"
    # A paused process acts on no signal but SIGKILL.
    [ "$signal" = KILL ] || signal_group "$name" CONT
    signal_group "$name" "$signal"
    while pid_of "$name" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -ne 200 ] || signal_group "$name" KILL
        [ "$tries" -lt 300 ] || die "$name (process $pid) does not die"
        sleep 0.1
    done
    rm -f "$STATE/$name/pid"
}

# Wait for a condition, at most $DEADLINE_S seconds and only as long as the process lives.
wait_until() {
    local name=$1 end=$((SECONDS + DEADLINE_S))
    shift
    until "$@" >/dev/null 2>&1; do
        running "$name" || {
            say "$name: the process has ended"
            return 1
        }
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# Run a command as the given user when we are root (some servers refuse to run as root), else as ourselves. Executes in place:
# the process id stays that of the server.
as_user() {
    local user=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs "$@"
    else
        "$@"
    fi
}

# The same for a daemon started by `launch`, which needs a program, not a shell function.
user_prefix() {
    if [ "$(id -u)" = 0 ]; then
        echo "setpriv --reuid=$1 --regid=$1 --init-groups --no-new-privs"
    fi
}
