#!/bin/busybox sh
# What a Nitro machine has before its kernel starts, and what this kernel has as modules: a vsock with context id
# 3, which leads back to this machine, and a character device for the NSM. Then everything outside the enclave:
# parent, NSM and KMS. Returns when they are ready. When they end, the machine ends.
BB=/bin/busybox
$BB mkdir -p /proc /sys /tmp
$BB mount -t proc proc /proc
$BB mount -t sysfs sysfs /sys
$BB mount -t tmpfs -o mode=1777 tmpfs /tmp
$BB ifconfig lo 127.0.0.1 up
for NAME in fuse cuse vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport vsock_loopback; do
  [ ! -e /modules/$NAME.ko ] || $BB insmod /modules/$NAME.ko
done
$BB mkfifo /machine/on /machine/off
(
  cd /project
  $BB env -i HOME=/ PATH=/nowhere /bin/node test/vm/guest/world.ts </dev/null >/dev/ttyS1 2>/dev/ttyS0
  echo "{\"end\":$?}" >/dev/ttyS1
  $BB sleep 0.2
  $BB reboot -f
) &
read -r READY </machine/on
