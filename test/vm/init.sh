#!/bin/busybox sh
# The first process of the machine of the checks: the usual mounts, then the checks, then the end of the machine.
BB=/bin/busybox
$BB mkdir -p /proc /sys /dev /tmp
$BB mount -t proc proc /proc
$BB mount -t sysfs sysfs /sys
$BB mount -t devtmpfs devtmpfs /dev
$BB mkdir -p /dev/shm
$BB mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$BB mount -t tmpfs -o mode=1777 tmpfs /tmp
$BB ifconfig lo 127.0.0.1 up
cd /project
export PATH=/nowhere
/bin/node test/vm/guest/main.ts </dev/null >/dev/ttyS1 2>/dev/ttyS0
CODE=$?
[ $CODE = 0 ] || $BB dmesg | $BB tail -n 20 >/dev/ttyS0
echo "{\"end\":$CODE}" >/dev/ttyS1
$BB sleep 0.2
$BB reboot -f
