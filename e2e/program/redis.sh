#!/bin/sh
# redis.sh SERVER CLIENT PORT DIR: a redis server, and two clients beside it that
# count without pause, one over TCP in ones, one over a unix socket in millions.
# Every answer goes to standard output.
"$1" --port "$3" --bind 127.0.0.1 --unixsocket "$4/redis.sock" --save "" --appendonly no --logfile "$4/redis.log" --dir "$4" &
until "$2" -p "$3" PING >/dev/null 2>&1; do
	sleep 0.05
done
"$2" -p "$3" -r -1 -i 0.01 INCRBY ones 1 &
exec "$2" -s "$4/redis.sock" -r -1 -i 0.01 INCRBY millions 1000000
