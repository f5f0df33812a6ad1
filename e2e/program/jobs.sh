#!/bin/bash
# Background jobs, a pipeline, a FIFO and a trap of bash. Each job tells its
# steps on standard output (step.Step); what is not as it should be is
# written as "error: ...". SIGUSR1 is counted. $1 is a directory to work in.
set -u
fail() { echo "error: $*"; kill -9 -- -$$; exit 70; }

# told WHO N IDS [COUNT]; /proc/uptime is CLOCK_BOOTTIME in hundredths.
told() {
	local up real
	read -r up _ </proc/uptime || fail "read /proc/uptime"
	real=${EPOCHREALTIME//[!0-9]/}
	echo "{\"who\":\"$1\",\"n\":$2,\"mono\":${up//./}0000000,\"real\":${real}000,\"ids\":\"$3\",\"count\":${4:-0}}"
}

# A job that sleeps in a child of its own, again and again.
counter() {
	local n=0
	while :; do
		sleep 0.05 || fail "$1: sleep ended with $?"
		n=$((n + 1))
		told "$1" $n "pid $BASHPID shell $$ parent $PPID"
	done
}

# A pipeline that never ends: numbers, a filter of another program, a checker.
numbers() {
	local n=0
	while :; do
		n=$((n + 1))
		echo "line $n"
		sleep 0.03 || fail "numbers: sleep ended with $?"
	done
}
checker() {
	local n=0 line
	while read -r line; do
		n=$((n + 1))
		[ "$line" = "LINE $n" ] || fail "pipeline: got '$line' instead of LINE $n"
		told pipeline $n "pid $BASHPID shell $$"
	done
	fail "the pipeline ended after line $n"
}

# One job asks through a FIFO, another answers.
asker() {
	local n=0 answer
	exec 3<>"$1/ask" 4<>"$1/answer"
	while :; do
		n=$((n + 1))
		echo "$n" >&3
		read -r -t 30 answer <&4 || fail "no answer to question $n"
		[ "$answer" = "$((n * n))" ] || fail "answer to $n is $answer"
		told fifo $n "pid $BASHPID"
		sleep 0.05
	done
}
answerer() {
	local n
	exec 3<>"$1/ask" 4<>"$1/answer"
	while read -r n <&3; do
		echo "$((n * n))" >&4
	done
}

usr1=0
trap 'usr1=$((usr1 + 1))' USR1
mkfifo "$1/ask" "$1/answer" "$1/never"
counter job1 &
job1=$!
counter job2 &
job2=$!
answerer "$1" &
asker "$1" &
numbers | stdbuf -oL tr a-z A-Z | checker &
n=0
while :; do
	n=$((n + 1))
	told main $n "pid $$ ppid $PPID jobs $job1 $job2" $usr1
	# Waits without a child; the trap may cut it short.
	read -r -t 0.05 <>"$1/never" || :
	kill -0 $job1 $job2 || fail "a job is gone"
done
