#!/bin/sh
# Builds the layer of codeLayer.c, for work on kernels, into a folder; needs gcc and the Vulkan headers (Debian:
# libvulkan-dev).
#   [VULKAN_INCLUDE=/path/to/include] native/buildCodeLayer.sh FOLDER
set -eu
here=$(dirname "$0")
out=${1:?usage: native/buildCodeLayer.sh FOLDER}
mkdir -p "$out"
gcc -std=c11 -O1 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden ${VULKAN_INCLUDE:+-I"$VULKAN_INCLUDE"} \
  -o "$out/libVkLayer_tandem_code.so" "$here/codeLayer.c"
cat > "$out/VkLayer_tandem_code.json" <<'JSON'
{
  "file_format_version": "1.2.0",
  "layer": {
    "name": "VK_LAYER_TANDEM_code",
    "type": "GLOBAL",
    "library_path": "./libVkLayer_tandem_code.so",
    "api_version": "1.3.239",
    "implementation_version": "1",
    "description": "writes what a driver makes of each compute pipeline"
  }
}
JSON
echo "VK_ADD_LAYER_PATH=$(cd "$out" && pwd) VK_INSTANCE_LAYERS=VK_LAYER_TANDEM_code TANDEM_CODE_DIR=..."
