#!/bin/sh
# pg.sh SERVER DATA DIR CLIENT: a PostgreSQL server, and beside it a session of
# its client whose commands come through the FIFO DIR/sql and whose answers go
# to standard output, so that a transaction stays open from one to the next.
"$1" -D "$2" -k "$3" -c listen_addresses= -c logging_collector=off 2>&1 &
until "$4" -h "$3" -d postgres -Atqc 'select 1' >/dev/null 2>&1; do
	sleep 0.1
done
# Both ends are open here, so that the session never sees the end of a writer.
exec 3<>"$3/sql"
"$4" -h "$3" -d postgres -Atq <&3
