# Puts the argument into $file, which must stay one line: the firmware reads no other. What is told to init, behind --, is not the kernel's.
set -ef
argument=cgroup_enable=memory
file=$(readlink -f "$file")
was=$(cat "$file")
line=$(printf '%s' "$was" | tr -d '\r')
case $line in
    '') echo "$file is empty" >&2; exit 1 ;;
    *'
'*) echo "$file has more than one line" >&2; exit 1 ;;
esac
before= after= is_there=
for word in $line; do
    case $after$word in
        "$argument") is_there=yes ;;
        cgroup_disable=memory) ;;
        --) after=" --" ;;
        ' '*) after="$after $word" ;;
        *) before="$before$word " ;;
    esac
done
new=$before$argument$after
[ "$new" != "$was" ] || exit 0
made=$file.k3arm-$$
trap 'rm -f "$made"' EXIT
full() { echo "it could not be written whole: is the disk full?" >&2; exit 1; }
if [ -z "$is_there" ]; then
    cp -p "$file" "$made" || full
    kept=$(cat "$made")
    # Another run may have done it since the line was read; its backup is the right one.
    [ "$kept" != "$new" ] || exit 0
    [ "$kept" = "$was" ] || full
    sync
    mv "$made" "$file.before-k3arm"
fi
printf '%s\n' "$new" > "$made" || full
sync
[ "$(cat "$made")" = "$new" ] || full
mv "$made" "$file"
sync
