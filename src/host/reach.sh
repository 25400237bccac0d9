# Tries $targets from this machine: read only, as any user, with bash, or else nc (TCP only). reach.rs reads what this prints.
# What is refused has come there and back. Nothing counts as silent before it was waited for: a busy board takes its time.
try_all='
said() {
    case $2 in
        *efused*) echo "reach=$1 refused" ;;
        *unreachable* | *"o route"* | *rohibited*) echo "reach=$1 unreachable" ;;
        *) echo "reach=$1 silent" ;;
    esac
}
tcp() {
    if words=$( { exec 3<>"/dev/tcp/$1/$2"; } 2>&1 ); then echo "reach=tcp:$1:$2 open"; else said "tcp:$1:$2" "$words"; fi
}
# A machine tells only once a second that nobody listens: it is asked twice.
udp() {
    exec 3<>"/dev/udp/$1/$2" || return
    for attempt in 1 2; do
        words=$( { echo >&3 && read -r -t 1.5 -u 3; } 2>&1 )
        case $words in *[a-z]*) break ;; esac
    done
    said "udp:$1:$2" "$words"
}
for target in $1; do
    place=${target#*:}
    case $target in
        tcp:*) { tcp "${place%:*}" "${place#*:}" 2>/dev/null; } & ;;
        udp:*) { udp "${place%:*}" "${place#*:}" 2>/dev/null; } & ;;
    esac
    pending="$pending $!"
done
# Those that are still connecting after this time are killed, and have no answer.
( sleep 5; kill $pending ) >/dev/null 2>&1 &
wait $pending
'

echo k3arm-reach-1
if command -v bash >/dev/null 2>&1; then
    said=$(bash -c "$try_all" bash "$targets" 2>/dev/null)
    [ -z "$said" ] || echo "$said"
    for target in $targets; do
        case $said in *"=$target "*) ;; *) echo "reach=$target silent" ;; esac
    done
elif command -v nc >/dev/null 2>&1; then
    tcp() {
        words=$(timeout 5 nc -w 3 "${1%:*}" "${1#*:}" 2>&1 </dev/null)
        # Ended by timeout: it was connected, and the other side says nothing.
        case $?-$words in
            0-* | 124-* | 143-*) echo "reach=tcp:$1 open" ;;
            *efused*) echo "reach=tcp:$1 refused" ;;
            *unreachable* | *"o route"* | *rohibited*) echo "reach=tcp:$1 unreachable" ;;
            *) echo "reach=tcp:$1 silent" ;;
        esac
    }
    for target in $targets; do
        case $target in tcp:*) tcp "${target#*:}" & ;; esac
    done
    wait
fi
echo end
