# Appends the argument to $file, which must stay one line: the firmware reads no other.
set -ef
argument=cgroup_enable=memory
file=$(readlink -f "$file")
line=$(tr -d '\r' < "$file")
case $line in
    '') echo "$file is empty" >&2; exit 1 ;;
    *'
'*) echo "$file has more than one line" >&2; exit 1 ;;
esac
words=
for word in $line; do
    case $word in "$argument" | cgroup_disable=memory) ;; *) words="$words$word " ;; esac
done
[ -e "$file.before-k3arm" ] || cp -p "$file" "$file.before-k3arm"
printf '%s%s\n' "$words" "$argument" > "$file.k3arm-new"
sync
# The disk may be full.
[ "$(cat "$file.k3arm-new")" = "$words$argument" ]
mv "$file.k3arm-new" "$file"
sync
