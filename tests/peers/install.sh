#!/usr/bin/env bash
# The other meta-learning libraries, into the environment whose python is given: install.sh .venv-peers/bin/python
set -euo pipefail
python="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }

pip install -r "$here/requirements.txt"
# They pin old versions of torch and torchvision, without which they work (stubs.py stands in for the imports).
pip install --no-deps higher==0.2.1 easyfsl==1.5.0 torchmeta==1.8.0
# learn2learn ships C files generated for older Pythons: they are made anew from its Cython sources.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
pip download --no-deps --no-binary :all: --no-build-isolation --dest "$work" learn2learn==0.2.0
tar -xzf "$work"/learn2learn-0.2.0.tar.gz -C "$work"
rm -f "$work"/learn2learn-0.2.0/learn2learn/data/*.c
sed -i 's/^use_cython = .*/use_cython = True/' "$work"/learn2learn-0.2.0/setup.py
pip install --no-deps --no-build-isolation "$work"/learn2learn-0.2.0
# Its wheel also holds a top-level package called `tests`, which would hide ours.
rm -rf "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tests"
