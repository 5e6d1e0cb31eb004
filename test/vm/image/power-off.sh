#!/bin/busybox sh
# Where init calls reboot(2): the world outside hears of the end, with the command's exit code, and outlives it.
[ -p /machine/off ] || /bin/busybox reboot -f
echo "$1" >/machine/off
while true; do /bin/busybox sleep 1000; done
