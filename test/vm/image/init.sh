#!/bin/busybox sh
# The first process of an enclave, in the place of nitro-cli's: what aws-nitro-enclaves-sdk-bootstrap init/init.c
# does, in its order (cgroups are left out), with programs that the emulated machine lends it. power-on and
# power-off are that machine's: it has nobody outside to switch it on and to see it end.
BB=/bin/busybox
die() {
  echo "init: $1"
  /machine/power-off 255
}

$BB mount -t devtmpfs -o nosuid,noexec dev /dev || die 'mount /dev'
exec </dev/console >/dev/console 2>&1
/machine/power-on

$BB insmod /nsm.ko || die 'failed to insert nsm driver'
$BB rm /nsm.ko
/machine/heartbeat || die 'heartbeat'

IFS='
'
set -f
ENVIRONMENT=$($BB cat /env)
COMMAND=$($BB cat /cmd)
$BB rm /env /cmd
cd /rootfs
$BB mount -t devtmpfs -o nosuid,noexec dev dev
$BB mount -t proc -o nodev,nosuid,noexec proc proc
$BB ln -sf /proc/self/fd dev/fd
for NUMBER_NAME in 0stdin 1stdout 2stderr; do
  $BB ln -sf "/proc/self/fd/${NUMBER_NAME%%[a-z]*}" "dev/${NUMBER_NAME#?}"
done
$BB mount -t tmpfs -o nodev,nosuid,noexec,mode=0755 tmpfs run
$BB mount -t tmpfs -o nodev,nosuid,noexec tmpfs tmp
$BB mkdir -p dev/shm dev/pts
$BB mount -t tmpfs -o nodev,nosuid,noexec shm dev/shm
$BB mount -t devpts -o nosuid,noexec devpts dev/pts
$BB mount -t sysfs -o nodev,nosuid,noexec sysfs sys

$BB setsid $BB env -i $ENVIRONMENT $BB chroot . $COMMAND </dev/console &
wait $!
/machine/power-off $?
