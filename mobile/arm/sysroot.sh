#!/usr/bin/env bash
# Lays out a folder with an ARM (aarch64) Python, NumPy and LiteRT, which qemu-user runs on a PC:
#
#     apt-get install qemu-user
#     mobile/arm/sysroot.sh [FOLDER]      # default: $KERAS_LAPKL_ARM_SYSROOT, or else arm-sysroot
#     mobile/arm/python FILE.py ...       # runs its Python; tests/mobile/test_arm.py does too
#     KERAS_LAPKL_ARM_CPU=cortex-a72 mobile/arm/python FILE.py ...    # without int8 dot products
#
# Needs a Debian with apt-get and dpkg-deb, and 200 MB; no root. PYTHON names a Python with pip and
# ai-edge-litert, whose version is taken, so that results can be compared. All else is of the Debian
# release that it runs on.
set -euo pipefail
cd "$(dirname "$0")/../.."
sysroot=${1:-${KERAS_LAPKL_ARM_SYSROOT:-arm-sysroot}}
python=${PYTHON:-python3}

fail() {
  echo "error: $*" >&2
  exit 1
}
[ ! -e "$sysroot" ] || fail "$sysroot is there already. Remove it to lay it out anew."
for tool in apt-get dpkg-deb "$python"; do
  command -v "$tool" >/dev/null || fail "$tool is not there; this needs Debian and Python."
done
litert=$("$python" -c 'from importlib.metadata import version; print(version("ai-edge-litert"))') ||
  fail "$python has no ai-edge-litert. Name another in PYTHON, such as .venv/bin/python."

mkdir -p "$(dirname "$sysroot")"
work=$(mktemp -d "$(realpath -m "$sysroot").XXXXXX")
trap 'rm -rf "$work"' EXIT

# apt with lists and a state of its own: this machine's architectures and packages stay as they are.
mkdir -p "$work"/apt/{lists,archives}/partial
: >"$work/apt/status"
cat >"$work/apt.conf" <<EOF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$work/apt";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt";
EOF
export APT_CONFIG=$work/apt.conf
apt-get -qq update
apt-get -qq -y --no-install-recommends --download-only install \
  python3-minimal libpython3-stdlib libstdc++6
for package in "$work"/apt/archives/*.deb; do
  dpkg-deb -x "$package" "$work/root"
done
# Newer releases have all in /usr, and this link in no package.
[ -e "$work/root/lib" ] || ln -s usr/lib "$work/root/lib"

version=$(readlink "$work/root/usr/bin/python3") # such as python3.11
"$python" -m pip install --quiet --disable-pip-version-check --target "$work/root/site" \
  --python-version "${version#python}" --implementation cp --only-binary=:all: \
  --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 \
  --platform manylinux_2_28_aarch64 "ai-edge-litert==$litert" numpy

# LiteRT asks /proc and /sys for the processor: qemu would show it the PC's, and kernels that do not
# fit the one that qemu plays crash or compute wrongly. So each has a view of its own.
processor() { # name in qemu, variant, part, revision, features beyond those that all have
  local view=$work/root/$1
  local cpu=$view/sys/devices/system/cpu
  mkdir -p "$view/proc" "$cpu"
  ln -s ../usr ../lib "$view"
  for file in possible present kernel_max; do
    echo 0 >"$cpu/$file"
  done
  printf '%s\n' 'processor : 0' "Features : fp asimd evtstrm crc32 cpuid $5" \
    'CPU implementer : 0x41' 'CPU architecture: 8' "CPU variant : $2" "CPU part : $3" \
    "CPU revision : $4" '' >"$view/proc/cpuinfo"
}
processor cortex-a72 0x0 0xd08 3 '' # as in a Raspberry Pi 4
processor neoverse-n1 0x3 0xd0c 1 'aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm asimddp'
mv "$work/root" "$sysroot"
echo "$sysroot: $version with LiteRT $litert for aarch64"
