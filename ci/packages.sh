#!/usr/bin/env bash
# Installs the Debian packages of the programs that the tests run, if any of
# the programs is missing. No service is started.
. "$(dirname "$0")/common.sh"

missing=()
need() { # need PROGRAM PACKAGE
	command -v "$1" >/dev/null || [ -n "$(compgen -G "$1")" ] || missing+=("$2")
}
need gcc gcc
need /usr/include/stdlib.h libc6-dev
need readelf binutils
need protoc protobuf-compiler
need make make
need git git
need bash bash
need setpriv util-linux
need ps procps
need ip iproute2
need hostname hostname
need script bsdutils
need tmux tmux
need systemd-analyze systemd
need vim.tiny vim-tiny
need less less
need pkill procps
need gdb gdb
need python3 python3-minimal
need /usr/bin/python3 python3
need node nodejs
need javac openjdk-17-jdk-headless
need redis-server redis-server
need redis-cli redis-tools
need nginx nginx-light
need zstd zstd
need mandoc mandoc
need debootstrap debootstrap
need /usr/share/bash-completion/bash_completion bash-completion
need zsh zsh
need fish fish
need age age
need ssh-keygen openssh-client
need memcached memcached
need '/usr/lib/postgresql/*/bin/postgres' postgresql
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "missing packages; as root: apt-get install ${missing[*]}" >&2
	exit 1
fi
# Debian starts a service as it is installed, unless this file says no
# (exit code 101, see invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends "${missing[@]}"
