# SPDX-License-Identifier: MIT
# A front door to CMake: every target is one line that you could type yourself.
PREFIX ?= /usr/local
DESTDIR ?=
export DESTDIR

.PHONY: help setup build demo check bench install format lint house clean

help:
	@echo 'make demo      build, quantize a small model, measure it, talk to it (MODEL=path for your own)'
	@echo 'make check     build and run every test, again with sanitizers, and the checks of the source'
	@echo 'make build     build/lowbit, the command'
	@echo 'make install   the command, library, headers and pkg-config file (PREFIX=/usr/local, DESTDIR=)'
	@echo 'make setup     install the Debian packages that are missing (asks first; YES=1 does not)'
	@echo 'make bench     build and run the benches'
	@echo 'make format    clang-format, in place;  make lint  clang-tidy;  make house  the source checks'
	@echo 'make clean     remove what was built'

setup:
	@tools/setup.sh

build:
	@tools/build.sh release

demo:
	@tools/demo.sh

check:
	@tools/check.sh

bench:
	@tools/build.sh bench
	@for program in build/bench_*; do [ -x "$$program" ] && { echo "== $$program"; "$$program" || exit 1; }; done; true

install:
	@[ -x build/lowbit ] || tools/build.sh release
	@cmake --install build --prefix "$(PREFIX)"

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

lint:
	@tools/build.sh dev
	clang-tidy --quiet -p build-dev $$(git ls-files 'src/*.c')

house:
	@tools/house.sh

clean:
	rm -rf build build-dev build-asan build-tsan build-ref build-fuzz
