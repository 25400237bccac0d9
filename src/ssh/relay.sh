# Runs "$@" between standard input and output, and ends it with the connection: a program that only reads and writes may
# not notice that. sshd holds the other end of standard error, a socket, for as long as the connection stands.
exec 3<&0 </dev/null
"$@" <&3 3<&- &
relay=$!
exec 3<&-
watch=
if [ -S /proc/self/fd/2 ]; then
    { read -r _; kill "$relay"; } <&2 >/dev/null 2>&1 &
    watch=$!
fi
trap 'kill "$relay"' TERM
wait "$relay"
status=$?
[ -z "$watch" ] || kill "$watch"
exit "$status"
