#!/bin/sh
# Builds the components in Python and JavaScript that the tests run: python.wasm; javascript.wasm, by componentize-js as
# it is by default; and quickjs.wasm of the same source, by jco's other engine, whose default is asynchronous.
#
#     build.sh [FOLDER]      the folder gets the components and the tools (about 430 MB); without it: target/languages
#
# The tools come from PyPI and npm, in the versions and with the hashes beside this file. What is there already and made
# of the same files stays. Exit codes: 3 where Python or npm is not installed; any other but 0 where a tool failed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
folder=${1:-${CARGO_TARGET_DIR:-$repository/target}/languages}
mkdir -p "$folder"
cd "$folder"

missing=
python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
command -v npm >/dev/null || missing="$missing npm"
if [ -n "$missing" ]; then
  echo "building the components of tests/languages needs$missing: \`apt-get install$missing\`, or \`make tools-test\`" >&2
  exit 3
fi

# Whether $1 is not there, or was made of other contents than the files after it have now. This script counts as one.
stale() {
  made=$1
  shift
  made_of=$(cat "$here/build.sh" "$@" | cksum)
  if [ -e "$made" ] && [ "$(cat "$made.made-of" 2>/dev/null)" = "$made_of" ]; then
    return 1
  fi
  rm -f "$made.made-of"
}

# Marks what `stale` was asked about as made. Only what is whole is marked, so after an interruption it is made again.
fresh() {
  echo "$made_of" >"$made.made-of"
}

wit=$repository/wit
requirements=$here/python/requirements.txt
lock=$here/javascript/package-lock.json

if stale python-tools "$requirements"; then
  echo 'installing componentize-py from PyPI' >&2
  rm -rf python-tools
  python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary :all: \
    --require-hashes --target python-tools -r "$requirements"
  fresh
fi
if stale node_modules "$lock"; then
  echo 'installing componentize-js and jco from npm' >&2
  cp "$here/javascript/package.json" "$lock" .
  # Nothing of them has to be built, and nothing needs to run for being installed.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  fresh
fi

if stale python.wasm "$requirements" "$wit/handler.wit" "$here/python/app.py"; then
  echo 'building python.wasm' >&2
  # From a copy: Python writes what it has compiled beside its sources.
  mkdir -p python
  cp "$here/python/app.py" python/
  PYTHONPATH=python-tools python-tools/bin/componentize-py --quiet -d "$wit" -w processor \
    componentize -p python app -o python.wasm >&2
  fresh
fi
if stale javascript.wasm "$lock" "$wit/handler.wit" "$here/javascript/app.js"; then
  echo 'building javascript.wasm' >&2
  node_modules/.bin/componentize-js "$here/javascript/app.js" -w "$wit" -n processor -o javascript.wasm >&2
  fresh
fi
if stale quickjs.wasm "$lock" "$wit/handler.wit" "$here/javascript/app.js"; then
  echo 'building quickjs.wasm' >&2
  node_modules/.bin/jco componentize "$here/javascript/app.js" --backend qjs -w "$wit" -n processor \
    -o quickjs.wasm >&2
  fresh
fi
