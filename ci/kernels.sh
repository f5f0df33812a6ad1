#!/usr/bin/env bash
# kernels.sh [COMMAND...]: runs some of the tests, or COMMAND, on the kernel of
# this Debian, emulated, whatever kernel runs here. It sees this machine's
# files, read-only, with nothing in /tmp, /run and /var/tmp; the checkout is
# its directory, $CKPT_BINARY the ckpt of it. Not part of `make test`: an
# emulated processor is slow, and tests that measure may fail on a busy one.
#   KERNEL=PACKAGE   another kernel package
#   TESTS="FOLDER..."  RUN=REGEXP   other tests
. "$(dirname "$0")/common.sh"

for p in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static; do
	command -v "${p%:*}" >/dev/null || { echo "${p%:*} is missing: apt-get install ${p#*:}" >&2; exit 1; }
done
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The kernel, unpacked and not installed.
KERNEL=${KERNEL:-$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p')}
(cd "$work" && phase "download $KERNEL" apt-get -q download "$KERNEL")
dpkg -x "$work"/linux-image-*.deb "$work/kernel"

# The first file system: what is needed to reach this machine's.
mkdir -p "$work"/initrd/{proc,dev,host,root,modules}
cp "$(command -v busybox)" "$work/initrd/busybox"
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci netfs fscache 9pnet 9pnet_virtio 9p unix_diag inet_diag tcp_diag udp_diag"
for m in $modules; do
	# One that is not there is built in.
	find "$work/kernel" -name "$m.ko*" -exec cp {} "$work/initrd/modules" \;
done
for m in "$work"/initrd/modules/*.xz; do [ ! -e "$m" ] || busybox unxz "$m"; done # from Debian 13 on
cat >"$work/initrd/init" <<INIT
#!/busybox sh
b=/busybox
for m in $modules; do [ ! -e /modules/\$m.ko ] || \$b insmod /modules/\$m.ko; done
\$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 host /host
\$b mount -o bind /host /root
for at in tmp run var/tmp; do \$b mount -t tmpfs -o mode=1777 tmp /root/\$at; done
# The checkout and what was built may lie in one of these.
for at in "$root" "$work"; do \$b mkdir -p "/root\$at"; \$b mount -o bind "/host\$at" "/root\$at"; done
\$b umount /host
exec \$b switch_root /root /bin/bash "$work/guest"
INIT
chmod 755 "$work" "$work/initrd/init"
(cd "$work/initrd" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd.gz"

# Built here: that is slow there.
export CKPT_BINARY=$work/ckpt
phase "build" go build -o "$CKPT_BINARY" ./cmd/ckpt
# Java alone takes as long as all others.
tests=${TESTS:-e2e e2e/workload e2e/state}
# Protection keys (TestState/keys) the emulated processor has in any case.
run=${RUN:-'TestScripts|TestRestore/(python|node|go|bash|redis|nginx|postgres|memcached)|TestState/keys'}
buildTests() {
	local t
	for t in $tests; do
		go test -c -o "$work/${t//\//-}.test" "./$t" || return 1
	done
	go build -o "$work/gcload" ./e2e/program/gcload
}
[ $# -gt 0 ] || phase "build tests" buildTests
{
	declare -p CKPT_BINARY root work tests run
	cat <<'GUEST'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t devtmpfs dev /dev; mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts; mount -t tmpfs -o mode=1777 tmp /dev/shm
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
ip link set lo up
cd "$root"
rc=0
GUEST
	if [ $# = 0 ]; then
		cat <<'GUEST'
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp "$@"; }
testsOf() { (cd "$1" && "$work/${1//\//-}.test" -test.v -test.timeout 2h -test.parallel 2 -test.run "$run"); }
step() { local start=$SECONDS; "$@" || { rc=1; echo "FAILED: $*"; }; echo "$((SECONDS - start)) s: $*"; }
uname -r
export CKPT_PATIENCE=25m
step "$CKPT_BINARY" check
step nobody "$CKPT_BINARY" check
for t in $tests; do step testsOf "$t"; done
GUEST
	else
		printf '%q ' "$@"
		echo '|| rc=$?'
	fi
	cat <<'GUEST'
echo "guest ends with $rc"
sync; echo o >/proc/sysrq-trigger; while :; do :; done
GUEST
} >"$work/guest"

# Emulated timers come late (no_timer_check).
qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m "${MEMORY:-4G}" -smp 2 -nodefaults -display none -no-reboot -serial stdio \
	-kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initrd.gz" -append "console=ttyS0 quiet panic=-1 no_timer_check" \
	-virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap" </dev/null | tee "$work/console"
grep -q "^guest ends with 0" "$work/console"
