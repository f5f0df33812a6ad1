#!/usr/bin/env bash
# Builds ckpt and shows the main job on a real program: python counts, is
# saved, is gone, is brought back and goes on with the ids it had; then a copy
# of it runs beside it. Works as root and as an ordinary user; leaves nothing.
. "$(dirname "$0")/common.sh"
./ci/build.sh
ckpt=$PWD/ckpt
work=$(mktemp -d)
export CKPT_STATE=$work/state
cleanup() {
	"$ckpt" rm -f demo >/dev/null 2>&1 || true
	"$ckpt" rm -f copy >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
cat >train.py <<'PY'
import os, threading, time
def step(name):
    n = 0
    while True:
        n += 1
        print(f"{name}: step {n}, pid {os.getpid()}, tid {threading.get_native_id()}, clock {time.monotonic():.1f}", flush=True)
        time.sleep(0.5)
threading.Thread(target=step, args=("thread",)).start()
step("main")
PY
show() { echo; printf '$ ckpt'; printf ' %s' "$@"; echo; "$ckpt" "$@"; }
python=$(command -v python3) || { echo "python3 is missing: apt-get install python3" >&2; exit 1; }
show start demo -- "$python" train.py
sleep 2
show ps demo
show dump demo ./img
show ps
show restore ./img
sleep 1
show ps demo
show dump demo ./img2 --leave-running
show restore ./img2 --name copy
sleep 1
show ps
echo; echo '$ ckpt logs demo | tail -4'; "$ckpt" logs demo | tail -4
echo; echo '$ ckpt logs copy | tail -2'; "$ckpt" logs copy | tail -2
