#!/usr/bin/env bash
# A private PostgreSQL in a folder, on a unix socket, never on the network and never as root.
#
# usage: tests/lib/postgres.sh start FOLDER [SETTING=VALUE...]   makes it if it is new; prints a connection string
#        tests/lib/postgres.sh stop FOLDER                       fast shutdown; the folder stays
#        tests/lib/postgres.sh kill FOLDER                       as a crash: no checkpoint
#        tests/lib/postgres.sh promote FOLDER [SETTING=VALUE...] again, as a replica that has become the primary: the next timeline
# The superuser is called escrow and needs no password. As root the server runs as the user postgres, which must be able to
# reach FOLDER. Settings are those of postgresql.conf, for example fsync=off.
set -euo pipefail

fail() {
    echo "postgres.sh: $*" >&2
    exit 1
}

as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid postgres --regid postgres --clear-groups -- "$@"
    else
        "$@"
    fi
}

# Any name of a folder, as an entry of unix_socket_directories in postgresql.conf, and as a value in a connection string.
conf_entry() { sed -e 's/"/""/g; s/.*/"&"/' -e "s/[\\']/&&/g" <<<"$folder"; }
conninfo_value() { sed -e "s/[\\']/\\\\&/g; s/.*/'&'/" <<<"$folder"; }

make_cluster() {
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres: "$folder"
    fi
    as_server "$bin/initdb" -D data -U escrow -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$folder/initdb.log" 2>&1 || {
        cat "$folder/initdb.log" >&2
        fail "initdb failed in $folder"
    }
    cat >>"$folder/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$(conf_entry)'
max_connections = 200
CONF
}

[ $# -ge 2 ] || {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
}
action=$1
folder=$2
shift 2
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || fail "no PostgreSQL here: tests/lib/install_packages.sh test"
[ ${#folder} -le 90 ] || fail "the name of the folder is too long for a unix socket: $folder"
# pg_ctl gives the names of its files to a shell: short ones, that need no quotes. And the server's user may not see where we
# stood.
[ "$action" != start ] || mkdir -p "$folder"
cd "$folder"

start() { # SETTING=VALUE...
    local setting options=
    for setting; do
        options+=" -c $setting"
    done
    as_server "$bin/pg_ctl" -D data -w -t 60 -l log -o "$options" start >/dev/null || {
        tail -n 20 "$folder/log" >&2
        fail "PostgreSQL does not start in $folder"
    }
}

case $action in
start)
    [ -d "$folder/data" ] || make_cluster
    start "$@"
    echo "host=$(conninfo_value) user=escrow dbname=postgres"
    ;;
promote)
    as_server "$bin/pg_ctl" -D data -w -t 60 -m fast stop >/dev/null
    as_server touch "$folder/data/standby.signal"
    start "$@"
    as_server "$bin/pg_ctl" -D data -w -t 60 promote >/dev/null
    ;;
stop) as_server "$bin/pg_ctl" -D data -w -t 60 -m fast stop >/dev/null ;;
kill) as_server "$bin/pg_ctl" -D data -w -t 60 -m immediate stop >/dev/null ;;
*) fail "unknown action '$action' (start, stop, kill, promote)" ;;
esac
