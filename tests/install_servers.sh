#!/bin/sh
# What the database tests need, from Debian's packages, where this is Debian and the user is root. Elsewhere nothing is
# installed: those tests are skipped and the last line of the run says so.
set -u
command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || exit 0
need=""
[ -n "$(ls /usr/lib/*/libodbc.so.2 2>/dev/null)" ] || need="$need unixodbc"
odbcinst -q -d -n "PostgreSQL Unicode" >/dev/null 2>&1 || need="$need odbc-postgresql"
odbcinst -q -d -n "MariaDB Unicode" >/dev/null 2>&1 || need="$need odbc-mariadb"
odbcinst -q -d -n "FreeTDS" >/dev/null 2>&1 || need="$need tdsodbc"
command -v mariadbd >/dev/null 2>&1 || [ -x /usr/sbin/mariadbd ] || need="$need mariadb-server-core"
command -v my_print_defaults >/dev/null 2>&1 || need="$need mariadb-client-core"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || need="$need postgresql"
[ -z "$need" ] && exit 0
echo "Installing for the database tests:$need"
export DEBIAN_FRONTEND=noninteractive
# The tests start private servers of their own; the packages' services are not wanted.
apt-get update -qq >/dev/null 2>&1
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends unixodbc odbcinst $need >/dev/null 2>&1 \
  || echo "apt-get could not install them; the tests that need them will be skipped"
exit 0
