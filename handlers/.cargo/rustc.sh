#!/bin/sh
# Names crates that come from a folder by their name alone. Cargo names them by their absolute path and their version,
# and the order of functions in a component follows these names: another folder would be another component.
case $CARGO_MANIFEST_DIR in
*/registry/src/* | */git/checkouts/*) exec "$@" ;;
esac
for arg do
    shift
    case $arg in
    metadata=*) arg="metadata=$CARGO_PKG_NAME" ;;
    esac
    set -- "$@" "$arg"
done
exec "$@"
