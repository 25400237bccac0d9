# Runs "$@" between standard input and output, and ends it with the connection, whose sshd is our parent: a program that
# only waits for the other end to speak does not notice that it is gone.
exec 3<&0 </dev/null
"$@" <&3 3<&- 2>/dev/null &
relay=$!
# What the program closes must be closed: nobody else may hold it.
exec 3<&- >/dev/null 2>&1
watch=
if kill -0 "$PPID"; then
    {
        trap 'kill "$nap"; exit' TERM
        while sleep 5 & nap=$!; wait "$nap"; kill -0 "$PPID"; do :; done
        kill -9 "$relay"
    } &
    watch=$!
fi
trap 'kill -9 "$relay"' TERM
wait "$relay"
status=$?
[ -z "$watch" ] || kill "$watch"
exit "$status"
