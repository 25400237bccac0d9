#!/bin/sh
# Stands under the names of iptables' programs and calls the variant that this host uses: the one that has rules already, or
# else the newer one. Using both on one host makes rules that the other never sees.
name=${0##*/}
here=${0%/*}
[ "$here" = "$0" ] && here=/bin/aux
rules() { "$here/xtables-$1-multi" iptables-save 2>/dev/null | grep -c '^-'; }
variant=nft
if [ "$(rules legacy)" -gt "$(rules nft)" ]; then
    variant=legacy
fi
exec "$here/xtables-$variant-multi" "$name" "$@"
