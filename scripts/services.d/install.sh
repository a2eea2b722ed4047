# shellcheck shell=bash
# Installs what a service needs, and only that: Debian packages through apt, Kafka's jars from Maven Central, the object
# store's Python packages into a virtual environment. Everything downloaded is kept under $CACHE and is checked by its SHA-256.

APT_UPDATED=

apt_install() {
    local sudo=()
    have apt-get || die "missing: $*. Install them with your system's package manager."
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || die "missing packages; run as root: apt-get install $*"
        sudo=(sudo -n)
    fi
    say "installing Debian packages: $*"
    if [ -z "$APT_UPDATED" ]; then
        "${sudo[@]}" apt-get update -qq >&2 || die "apt-get update failed"
        APT_UPDATED=yes
    fi
    # RUNLEVEL=1 keeps the packages from starting system-wide daemons, which nobody here wants.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>"$(apt_log)" || {
        cat "$(apt_log)" >&2
        die "apt-get install $* failed"
    }
}

apt_log() {
    mkdir -p "$CACHE"
    echo "$CACHE/apt.log"
}

# need COMMAND PACKAGE…: install the packages unless the command exists.
need() {
    local program=$1
    shift
    have "$program" || apt_install "$@"
}

java_is_recent() {
    local version
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ]
}

# Kafka 4 needs Java 17; the name of the newest runtime differs between releases of the distributions.
need_java() {
    local version
    if have java && java_is_recent; then return; fi
    for version in 21 17 25; do
        if apt-cache show "openjdk-$version-jre-headless" >/dev/null 2>&1; then
            apt_install "openjdk-$version-jre-headless"
            have java && java_is_recent && return
        fi
    done
    apt_install default-jre-headless
    java_is_recent || die "Kafka needs Java 17 or newer"
}

postgres_bin() {
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
        [ -x "$folder/initdb" ] && echo "$folder" && return
    done
    have initdb && dirname "$(command -v initdb)"
}

install_for() {
    case $1 in
    kafka)
        need curl curl ca-certificates
        need_java
        install_kafka
        ;;
    postgres) [ -n "$(postgres_bin)" ] || apt_install postgresql ;;
    redis) need redis-server redis-server ;;
    mariadb) need mariadbd mariadb-server ;;
    s3)
        need curl curl ca-certificates
        install_s3
        ;;
    chromium) have chromium || have chromium-browser || have google-chrome || apt_install chromium ;;
    esac
}

# Where Maven artifacts come from: $DESIRELINE_MAVEN_URL, else the mirror that the user's Maven settings name for Central, else Central.
maven_url() {
    local settings="$HOME/.m2/settings.xml" mirror=
    if [ -n "${DESIRELINE_MAVEN_URL:-}" ]; then
        echo "${DESIRELINE_MAVEN_URL%/}"
        return
    fi
    if [ -r "$settings" ]; then
        mirror=$(tr '\n' ' ' <"$settings" | sed 's/<!--[^>]*-->//g; s/<mirror>/\n<mirror>/g' |
            grep -E '^<mirror>.*<mirrorOf>[^<]*(\*|central)[^<]*</mirrorOf>' |
            sed -n 's/.*<url>[[:space:]]*\([^<[:space:]]*\).*/\1/p' | head -n 1) || true
    fi
    mirror=${mirror:-https://repo1.maven.org/maven2}
    echo "${mirror%/}"
}

# The jars named in kafka-jars.sha256 (the closed runtime class path of one Kafka release), each verified.
install_kafka() {
    local list="$HERE/services.d/kafka-jars.sha256" folder base path sum config
    folder="$CACHE/kafka-$(sha256sum "$list" | cut -c1-12)"
    # shellcheck disable=SC2034 # read by kafka.sh
    KAFKA_JARS=$folder
    [ -e "$folder/complete" ] && return
    mkdir -p "$folder"
    base=$(maven_url)
    say "downloading Apache Kafka ($(grep -c . "$list") jars, about 43 MB)"
    config=$(mktemp)
    while read -r sum path; do
        if ! echo "$sum  $folder/${path##*/}" | sha256sum -c --status 2>/dev/null; then
            printf 'url = "%s/%s"\noutput = "%s/%s"\n' "$base" "$path" "$folder" "${path##*/}" >>"$config"
        fi
    done <"$list"
    if [ -s "$config" ]; then
        curl --fail --no-progress-meter --location --retry 5 --retry-connrefused --connect-timeout 20 --max-time 600 \
            --parallel --parallel-max 6 --config "$config" >&2 || {
            rm -f "$config"
            die "Kafka's jars could not be downloaded"
        }
    fi
    rm -f "$config"
    while read -r sum path; do
        echo "$sum  $folder/${path##*/}" | sha256sum -c --status || {
            rm -f "$folder/${path##*/}"
            die "${path##*/} does not have the expected SHA-256"
        }
    done <"$list"
    : >"$folder/complete"
}

# A virtual environment for the object store. python3 of the system is preferred, because a version manager's may lack `venv`.
install_s3() {
    install_python s3 "$HERE/services.d/s3-requirements.txt" "the object store"
    # shellcheck disable=SC2034 # read by s3.sh
    S3_PYTHON=$PYTHON_FOLDER/bin/python
}

# install_python NAME LIST WHAT: a virtual environment with the packages of a list; leaves its folder in PYTHON_FOLDER.
install_python() {
    local list=$2 python=/usr/bin/python3
    PYTHON_FOLDER="$CACHE/$1-$(sha256sum "$list" | cut -c1-12)"
    [ -e "$PYTHON_FOLDER/complete" ] && return
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        apt_install python3 python3-venv
    fi
    say "installing the Python packages of $3"
    rm -rf "$PYTHON_FOLDER"
    "$python" -m venv "$PYTHON_FOLDER" >&2 || die "python3 -m venv failed"
    "$PYTHON_FOLDER/bin/pip" install --quiet --disable-pip-version-check --requirement "$list" >&2 || die "$3 could not be installed"
    : >"$PYTHON_FOLDER/complete"
}
