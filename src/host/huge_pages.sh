# Switches huge pages off, now and, by $file, at every start; all of it or nothing.
set -e
switch=/sys/kernel/mm/transparent_hugepage/enabled
kept=/proc/sys/vm/min_free_kbytes
was=$(sed 's/.*\[\(.*\)\].*/\1/' "$switch")
before=$(cat "$kept")
trap '[ -n "$is_done" ] || { rm -f "$file"; echo "$was" > "$switch"; }' EXIT
echo never > "$switch"
[ "$(cat "$kept")" -lt "$before" ] || { echo "its kernel gives nothing back: is vm.min_free_kbytes set?" >&2; exit 1; }
echo "w! $switch - - - - never" > "$file"
is_done=yes
