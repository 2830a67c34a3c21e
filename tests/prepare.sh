# Sourced by tests/check and tests/demo: the packages of Debian 12 that CBus is built and tested with, and the build.
BUILD="${CBUS_BUILD:-$PWD/build}"
# Debian's own, which has the modules of the packages below.
PYTHON=/usr/bin/python3

BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config libglib2.0-dev libglib2.0-bin libjson-glib-dev libnats-dev
    libsodium-dev"
RUN_PACKAGES="dbus nats-server systemd systemd-container openssh-client python3 iproute2 util-linux"
TEST_PACKAGES="clang clang-format clang-tidy cppcheck libclang-rt-14-dev dbus-broker openssh-server python3-pytest python3-pytest-xdist python3-dbus python3-dbusmock
    python3-gi python3-dasbus python3-dbus-next python3-jeepney dbus-tests gir1.2-glib-2.0 python3-cryptography polkitd procps openssl faketime golang-go golang-github-nats-io-go-nats-dev
    qdbus-qt5 d-feet xvfb python3-pyatspi at-spi2-core zsh fish"
# Clients and daemons that tests run and nobody wants installed for that: they would start services, take over the
# network or /etc/resolv.conf. They are unpacked below CBUS_UNPACKED, with what they need and is not there.
UNPACKED_PACKAGES="bluez iio-sensor-proxy libnotify-bin network-manager ofono-scripts power-profiles-daemon systemd-resolved udisks2
    upower"
export CBUS_UNPACKED="${CBUS_UNPACKED:-$BUILD/unpacked}"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs whatever of "$@" (default: what a build and a run need) is not there yet. A package may start a service
# of its own (nats-server does under systemd); the tests use none of these, and ports and buses of their own.
install_packages() {
    local package missing=()
    for package in $BUILD_PACKAGES $RUN_PACKAGES "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing: ${missing[*]}" >&2
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get -q update >/dev/null && apt-get -q -y --no-install-recommends install "$@"' sh "${missing[@]}" >/tmp/cbus-apt.$$.log 2>&1 || {
            tail -20 "/tmp/cbus-apt.$$.log" >&2
            echo "could not install: ${missing[*]}" >&2
            return 1
        }
    rm -f "/tmp/cbus-apt.$$.log"
}

# Downloads "$@" and unpacks them; the list beside the tree tells whether that was done.
unpack_packages() {
    local log="/tmp/cbus-unpack.$$.log" archives
    [ "$(cat "$CBUS_UNPACKED.list" 2>/dev/null)" = "$*" ] && return 0
    archives=$(mktemp -d) && mkdir -p "$archives/partial" && mkdir -p "$CBUS_UNPACKED" || return 1
    echo "unpacking: $*" >&2
    as_root env DEBIAN_FRONTEND=noninteractive sh -c 'archives=$1; shift
        apt-get -q update >/dev/null &&
            apt-get -q -y --no-install-recommends --reinstall --download-only -o Dir::Cache::archives="$archives" install "$@"' \
        sh "$archives" "$@" >"$log" 2>&1 &&
        printf '%s\0' "$archives"/*.deb | xargs -0 -n 1 sh -c 'dpkg-deb -x "$1" "$0"' "$CBUS_UNPACKED" >>"$log" 2>&1 &&
        echo "$*" >"$CBUS_UNPACKED.list" || {
        tail -20 "$log" >&2
        echo "could not unpack: $*" >&2
        return 1
    }
    as_root rm -rf "$archives" "$log"
}

# build_tree DIR [meson options]: configures once, then compiles; a warning is an error.
build_tree() {
    local directory=$1
    shift
    [ -f "$directory/build.ninja" ] || meson setup "$directory" "$@" >"/tmp/cbus-meson.$$.log" 2>&1 || {
        cat "/tmp/cbus-meson.$$.log" >&2
        return 1
    }
    rm -f "/tmp/cbus-meson.$$.log"
    meson compile -C "$directory" --ninja-args=--quiet >&2
}
