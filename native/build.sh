#!/bin/sh
# Builds linux-x64/libVkLayer_tandem_devices.so; needs gcc and the Vulkan headers (Debian: libvulkan-dev).
#   VULKAN_INCLUDE=/path/to/include native/build.sh     where the headers are not in /usr/include
# The result asks for no symbol newer than MAX_GLIBC, so that it loads on any glibc system of the last decade.
set -eu
cd "$(dirname "$0")"

MAX_GLIBC=2.3.4
out=linux-x64/libVkLayer_tandem_devices.so
source_sha256=$(sha256sum deviceLayer.c | cut -d ' ' -f 1)

# No stack protector (its symbol is of glibc 2.4); no build id (the same source gives the same bytes).
gcc -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -fno-stack-protector \
  -DSOURCE_SHA256="\"$source_sha256\"" ${VULKAN_INCLUDE:+-I"$VULKAN_INCLUDE"} \
  -Wl,--build-id=none -Wl,-z,relro,-z,defs -Wl,--as-needed -s -o "$out" deviceLayer.c

newest=$(objdump -T "$out" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
if [ "$(printf '%s\n' "$newest" "GLIBC_$MAX_GLIBC" | sort -V | tail -n 1)" != "GLIBC_$MAX_GLIBC" ]; then
  echo "$out: asks for $newest, more than GLIBC_$MAX_GLIBC:" >&2
  objdump -T "$out" | grep "$newest" >&2
  exit 1
fi
echo "$out: $(wc -c < "$out") bytes, needs $newest"
