#!/usr/bin/env bash
# Brings a MySQL 9 below target/mysql9, from Debian's unstable suite: about 450 MB, and nothing of it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

tree=$PWD/target/mysql9
if [ -x "$tree/usr/sbin/mysqld" ]; then
    exit
fi
scripts/install.sh mmdebstrap
rm -rf "$tree"
# A mirror may be some weeks behind, which matters to nobody here.
mmdebstrap --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' --include=mysql-server,mysql-client unstable "$tree"
